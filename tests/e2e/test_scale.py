"""Sixty pods come and go three times: undisturbed, and while what they need is killed. No address is left over."""

from collections import Counter

import pytest

from tests.e2e import disturbance, sixty
from tests.e2e.running import running
from tests.e2e.tortie import settle
from tests.kube.whole.cluster import Cluster

THIRD = sixty.SIXTY // 3


@pytest.fixture(scope="module", autouse=True)
def prepared(cluster: Cluster) -> None:
    sixty.make(cluster)


@pytest.mark.parametrize(
    ("rising", "falling"),
    [
        pytest.param((), (), id="undisturbed"),
        pytest.param(("kubelet", "agent"), ("containerd",), id="kubelet and agent killed, then containerd"),
        pytest.param(
            ("containerd", "apiserver"), ("agent", "kubelet"), id="containerd and apiserver killed, then agent"
        ),
    ],
)
def test_sixty_pods_come_and_go(cluster: Cluster, rising: tuple[str, ...], falling: tuple[str, ...]) -> None:
    if rising:
        sixty.scale(cluster, sixty.SIXTY)
        for number, name in enumerate(rising):
            sixty.until_ready(cluster, number * THIRD + 5)
            disturbance.KILLED[name](cluster)
        pods = cluster.wait_pods(sixty.SELECTOR, sixty.SIXTY)
    else:
        pods, _ = sixty.up(cluster)
    addresses = Counter(address["ip"] for pod in pods for address in pod["status"]["podIPs"])
    assert len(addresses) == 2 * sixty.SIXTY
    first, *others = [running(cluster, pod) for pod in pods[:: THIRD // 2]]
    for family in (0, 1):
        assert [first.place.fetch(other.addresses[family]) for other in others] == [other.name for other in others]
    sixty.scale(cluster, 0)
    for number, name in enumerate(falling):
        sixty.until_gone(cluster, sixty.SIXTY - 5 - number * THIRD)
        disturbance.KILLED[name](cluster)
    sixty.until_gone(cluster)
    settle(cluster)
