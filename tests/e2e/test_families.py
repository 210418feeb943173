"""Two families on one cluster: everything that has addresses has both, and IPv6 is there from a pod's first packet."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.e2e.documents import PORT, agnhost, apply, pod, remove, service
from tests.e2e.running import Running, all_running, eventually, reaches
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.images import AGNHOST_IMAGE

BOTH = [4, 6]
FIRST_PACKET_S = 0.5
"""Of a connection, half of what a solicitation waits that nobody answered (RFC 4861 section 10, RETRANS_TIMER), and of
what an address is tentative (RFC 4862 section 5.4)."""


@pytest.fixture(scope="module")
def servers(cluster: Cluster) -> Iterator[list[Running]]:
    documents = [pod(f"server-{number}", agnhost(), node=f"node-{number}", app="servers") for number in (1, 2)]
    apply(cluster, *documents)
    yield all_running(cluster, "app=servers", 2)
    remove(cluster, *documents)


def families(addresses: list[str]) -> list[int]:
    return [ip_address(address).version for address in addresses]


def test_pods_nodes_and_pools_have_both(cluster: Cluster, servers: list[Running]) -> None:
    for one in servers:
        assert families(list(one.addresses)) == BOTH
    for node in cluster.api.items("/apis/tortie.dev/v1/nodes"):
        assert families(node["spec"]["addresses"]) == BOTH
    pools = cluster.api.items("/apis/tortie.dev/v1/ippools")
    assert {pool["metadata"]["name"] for pool in pools} == {"default-ipv4", "default-ipv6"}


def test_a_service_of_ipv6_alone_is_reached(cluster: Cluster, servers: list[Running]) -> None:
    alone = service("servers")
    alone["spec"] |= {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}
    apply(cluster, alone)
    path = "/api/v1/namespaces/default/services/servers"
    (address,) = cluster.api.get(path)["spec"]["clusterIPs"]
    assert ip_address(address).version == 6
    for one in servers:
        eventually("the Service is reached", lambda place=one.place: reaches(place, address, 80))  # type: ignore[misc]
    remove(cluster, alone)


@pytest.mark.parametrize("node", ["node-1", "node-3"])
def test_the_first_packet_of_a_pod_waits_for_nothing(cluster: Cluster, servers: list[Running], node: str) -> None:
    times, used = first_packets(cluster, node, servers[0].addresses[1])
    assert "nodad" in used
    assert "tentative" not in used
    assert max(times) < FIRST_PACKET_S, times


def first_packets(cluster: Cluster, node: str, to: str) -> tuple[list[float], str]:
    """A pod that connects at once: how long each of two connections took, and its own address as it was before."""
    script = (
        "ip -6 -o addr show dev eth0 scope global; for n in 1 2; do"
        f" curl -gs --max-time 5 -o /dev/null -w '%{{time_connect}}\\n' http://[{to}]:{PORT}/hostname || echo 99; done"
    )
    container = {"name": "c", "image": AGNHOST_IMAGE, "command": ["/bin/sh", "-c", script]}
    spec: Document = {"restartPolicy": "Never", "containers": [container]}
    first = pod(f"first-{node}", spec, node=node)
    apply(cluster, first)
    path = f"/api/v1/namespaces/default/pods/first-{node}"
    eventually("it has ended", lambda: cluster.api.get(path)["status"]["phase"] == "Succeeded")
    used, *times = cluster.kubectl("logs", f"first-{node}").splitlines()
    remove(cluster, first)
    return [float(one) for one in times], used
