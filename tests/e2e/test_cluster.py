"""The cluster itself, with no part of tortie: what the other tests stand on. Each test goes on from the last."""

import re
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

from tests.e2e import sixty
from tests.e2e.documents import PORT, agnhost, apply, deployment, service
from tests.e2e.running import Running, all_running, eventually, outside, reaches
from tests.kube.whole import cgroups, reference
from tests.kube.whole.cluster import Cluster

SIX = 6
NODE_PORT = 30080


@pytest.fixture(scope="module")
def web(bare: Cluster) -> list[Running]:
    """Servers on every node, and a Service."""
    reference.install(bare)
    apply(bare, deployment("web", SIX, agnhost(probed=True)), service("web", node_port=NODE_PORT))
    return all_running(bare, "app=web", SIX)


def cluster_address(cluster: Cluster) -> str:
    return str(cluster.api.get("/api/v1/namespaces/default/services/web")["spec"]["clusterIP"])


def test_nodes_without_a_network_are_not_ready(bare: Cluster) -> None:
    said = bare.kubectl("get", "nodes", "--no-headers").splitlines()
    assert [line.split()[:2] for line in said] == [[f"node-{n}", "NotReady"] for n in (1, 2, 3)]
    conditions = bare.api.get("/api/v1/nodes/node-1")["status"]["conditions"]
    (why,) = [one["message"] for one in conditions if one["type"] == "Ready"]
    assert "cni plugin not initialized" in why


def test_with_the_reference_plugins_they_are(bare: Cluster, web: list[Running]) -> None:
    bare.wait_ready()
    assert {pod.node.name for pod in web} == {"node-1", "node-2", "node-3"}


def test_every_pod_reaches_every_other_with_its_own_address(web: list[Running]) -> None:
    for one, other in product(web, web):
        if one is not other:
            assert one.place.fetch(other.address) == other.name
            assert one.place.fetch(other.address, path="/clientip").startswith(f"{one.address}:")


def test_a_service_is_reached_from_pods_nodes_and_outside(bare: Cluster, web: list[Running]) -> None:
    address, names = cluster_address(bare), {pod.name for pod in web}
    eventually("the Service works", lambda: reaches(web[0].place, address, 80))
    assert {pod.place.fetch(address, 80) for pod in web for _ in range(4)} <= names
    assert {outside(bare).fetch(node.address, NODE_PORT) for node in bare.nodes} <= names


def test_exec_and_logs_go_by_the_apiserver_to_the_kubelet(bare: Cluster, web: list[Running]) -> None:
    said = bare.kubectl("exec", web[0].name, "--", "curl", "-s", f"http://{web[-1].address}:{PORT}/hostname")
    assert said == web[-1].name
    assert "Started HTTP server" in bare.kubectl("logs", web[0].name)


def test_sixty_pods_start(bare: Cluster, web: list[Running]) -> None:
    sixty.make(bare)
    pods, _ = sixty.up(bare)
    assert len({pod["status"]["podIP"] for pod in pods}) == sixty.SIXTY
    sixty.scale(bare, 0)
    sixty.until_gone(bare)


def test_kube_proxy_changes_to_nftables(bare: Cluster, web: list[Running]) -> None:
    address = cluster_address(bare)
    for node in bare.nodes:
        node.start_proxy("nftables")
    for pod in web:
        eventually("the Service works again", lambda pod=pod: reaches(pod.place, address, 80))  # type: ignore[misc]
    for node in bare.nodes:
        assert "KUBE-SVC" not in node.run("iptables-save")
        assert "kube-proxy" in node.run("nft", "list", "tables")


def test_two_clusters_may_stand_side_by_side(bare: Cluster) -> None:
    with Cluster.started(1) as other:
        assert [len(one.api.items("/api/v1/nodes")) for one in (bare, other)] == [3, 1]


def test_nothing_is_left_of_a_cluster_that_is_closed(bare: Cluster) -> None:
    with ExitStack() as held:
        namespaces = frozenset.union(*(held.enter_context(machine.held_namespaces()) for machine in bare.machines))
        assert cgroups.left(bare.name)
        bare.close()
        assert cgroups.left(bare.name) == []
        assert not bare.folder.exists()
        assert bare.name not in Path("/proc/self/mountinfo").read_text()
        assert [process for process in map(spaces, Path("/proc").glob("[0-9]*")) if process & namespaces] == []


def spaces(process: Path) -> frozenset[str]:
    """The namespaces that a process is in."""
    found = set()
    for kind in ("net", "mnt", "uts", "pid"):
        try:
            found.add(str((process / "ns" / kind).readlink()))
        except OSError:
            return frozenset()
    assert all(re.fullmatch(r"\w+:\[\d+\]", one) for one in found)
    return frozenset(found)
