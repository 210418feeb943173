"""Sixty pods come and go three times: undisturbed, and while what they need is killed. No address is left over.

Each of kubelet, containerd, agent and apiserver is killed once with kube-proxy's iptables rules and once with its
nftables rules: half of them while pods come, half while they go, and the other way round.
"""

from collections import Counter

import pytest

from tests.e2e import disturbance, sixty
from tests.e2e.documents import apply, service
from tests.e2e.running import eventually, reaches, running
from tests.e2e.tortie import settle
from tests.kube.whole.cluster import Cluster


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> str:
    """Of the Service before them; the Deployment is made without a pod."""
    sixty.make(cluster)
    apply(cluster, service(sixty.NAME))
    return str(cluster.api.get(f"/api/v1/namespaces/default/services/{sixty.NAME}")["spec"]["clusterIP"])


@pytest.mark.parametrize(
    ("proxy", "rising", "falling"),
    [
        pytest.param("nftables", (), (), id="undisturbed"),
        pytest.param("iptables", ("kubelet", "agent"), ("containerd", "apiserver"), id="killed, with iptables"),
        pytest.param("nftables", ("containerd", "apiserver"), ("agent", "kubelet"), id="killed, with nftables"),
    ],
)
def test_sixty_pods_come_and_go(
    cluster: Cluster, address: str, proxy: str, rising: tuple[str, ...], falling: tuple[str, ...]
) -> None:
    cluster.use_proxy(proxy)
    sixty.scale(cluster, sixty.SIXTY)
    for number, name in enumerate(rising):
        sixty.until_ready(cluster, number * sixty.SIXTY // len(rising) + 5)
        disturbance.KILLED[name](cluster)
    pods = cluster.wait_pods(sixty.SELECTOR, sixty.SIXTY)
    assert len(Counter(pod["status"]["podIP"] for pod in pods)) == sixty.SIXTY
    first, *others = [running(cluster, pod) for pod in pods[:: sixty.SIXTY // 6]]
    assert [first.place.fetch(other.address) for other in others] == [other.name for other in others]
    eventually("the Service works", lambda: reaches(first.place, address, 80))
    sixty.scale(cluster, 0)
    for number, name in enumerate(falling):
        sixty.until_gone(cluster, sixty.SIXTY - 5 - number * sixty.SIXTY // len(falling))
        disturbance.KILLED[name](cluster)
    sixty.until_gone(cluster)
    settle(cluster)
