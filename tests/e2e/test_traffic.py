"""What pods reach and what reaches them, with kube-proxy's iptables rules, then with its nftables rules."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import pytest

from tests.e2e.documents import PORT, agnhost, apply, deployment, pod, remove, service
from tests.e2e.running import Place, Running, all_running, eventually, outside, reaches
from tests.kube.programs import AGNHOST
from tests.kube.whole import addresses
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.images import AGNHOST_IMAGE

SIX = 6
NODE_PORT = 30090
LOCAL_PORT = 30091
HOST_PORT = 30500
KUBELET_PORT = 10250
OUTSIDE_PORT = 8099
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105
_ASK_API = (
    f'curl -s --max-time 5 --cacert {_TOKEN}/ca.crt -H "Authorization: Bearer $(cat {_TOKEN}/token)"'
    " https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/default/pods"
)


@dataclass(frozen=True, slots=True)
class World:
    """What the tests here use: six servers behind Services, one alone behind its own, one on a port of its node."""

    web: list[Running]
    alone: Running
    published: Running
    services: dict[str, str]
    """Their cluster addresses."""


@pytest.fixture(scope="module", params=["iptables", "nftables"])
def proxy(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """kube-proxy's mode on every node."""
    cluster.use_proxy(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[World]:
    documents = (
        deployment("web", SIX, agnhost(probed=True)),
        service("web", node_port=NODE_PORT),
        pod("alone", agnhost(), node="node-2"),
        service("alone", node_port=LOCAL_PORT, local=True),
        pod("published", agnhost(host_port=HOST_PORT), node="node-1"),
    )
    apply(cluster, *documents)
    web = all_running(cluster, "app=web", SIX)
    (alone,), (published,) = (all_running(cluster, f"app={name}", 1) for name in ("alone", "published"))
    path = "/api/v1/namespaces/default/services/{}"
    clusters = {name: str(cluster.api.get(path.format(name))["spec"]["clusterIP"]) for name in ("web", "alone")}
    yield World(web, alone, published, clusters)
    remove(cluster, *documents)


def served(place: Place, address: str, port: int) -> None:
    eventually(f"{address}:{port} is served", lambda: reaches(place, address, port))


def knows_api(place: Place) -> bool:
    """Whether kube-proxy has come so far, after a change of its mode."""
    return place.hears(addresses.API_SERVICE, 443) == "open"


def test_every_pod_reaches_every_other_with_its_own_address(world: World) -> None:
    for one, other in permutations(world.web, 2):
        assert one.place.fetch(other.address) == other.name
        assert one.place.fetch(other.address, path="/clientip").startswith(f"{one.address}:")


def test_pods_answer_datagrams_too(cluster: Cluster, world: World) -> None:
    command = f"echo hostname | nc -u -w 2 {world.alone.address} {PORT}"
    assert cluster.kubectl("exec", world.web[0].name, "--", "sh", "-c", command).strip() == "alone"


def test_hosts_reach_pods_of_their_own_and_of_others(cluster: Cluster, world: World) -> None:
    for node in cluster.nodes:
        for one in world.web:
            assert Place(node.machine).fetch(one.address) == one.name


def test_pods_reach_hosts(cluster: Cluster, world: World) -> None:
    for node in cluster.nodes:
        assert world.alone.place.hears(node.address, KUBELET_PORT) == "open"


def test_outside_sees_the_nodes_address(cluster: Cluster, world: World) -> None:
    machine = cluster.fabric.machine
    machine.program("server", AGNHOST, "netexec", f"--http-port={OUTSIDE_PORT}", "--udp-port=-1").start()
    eventually("there is a server outside", lambda: reaches(outside(cluster), addresses.FABRIC, OUTSIDE_PORT))
    for one in world.web:
        seen = one.place.fetch(addresses.FABRIC, OUTSIDE_PORT, "/clientip")
        assert seen.rpartition(":")[0] == one.node.address


def test_a_pod_reaches_the_api_with_its_token(cluster: Cluster, proxy: str, world: World) -> None:
    for one in {one.node.name: one for one in world.web}.values():
        eventually("the API has its address", lambda place=one.place: knows_api(place))  # type: ignore[misc]
        answer = json.loads(cluster.kubectl("exec", one.name, "--", "sh", "-c", _ASK_API))
        assert "system:serviceaccount:default:default" in answer["message"]


def test_a_cluster_address_is_reached_from_pods_and_hosts(cluster: Cluster, proxy: str, world: World) -> None:
    names = {one.name for one in world.web}
    for place in (*(one.place for one in world.web), *(Place(node.machine) for node in cluster.nodes)):
        served(place, world.services["web"], 80)
        assert {place.fetch(world.services["web"], 80) for _ in range(6)} <= names


def test_a_pod_reaches_itself_by_its_service(proxy: str, world: World) -> None:
    served(world.alone.place, world.services["alone"], 80)
    assert world.alone.place.fetch(world.services["alone"], 80) == "alone"
    assert world.alone.place.fetch(world.alone.address) == "alone"


def test_a_node_port_is_reached_on_every_node(cluster: Cluster, proxy: str, world: World) -> None:
    names = {one.name for one in world.web}
    for node in cluster.nodes:
        served(outside(cluster), node.address, NODE_PORT)
        assert {outside(cluster).fetch(node.address, NODE_PORT) for _ in range(6)} <= names
        assert world.alone.place.fetch(node.address, NODE_PORT) in names


def test_a_local_node_port_keeps_the_clients_address(cluster: Cluster, proxy: str, world: World) -> None:
    served(outside(cluster), world.alone.node.address, LOCAL_PORT)
    seen = outside(cluster).fetch(world.alone.node.address, LOCAL_PORT, "/clientip")
    assert seen.rpartition(":")[0] == addresses.FABRIC


def test_a_host_port_leads_to_its_pod_alone(cluster: Cluster, proxy: str, world: World) -> None:
    here = world.published.node
    assert outside(cluster).fetch(here.address, HOST_PORT) == "published"
    for one in world.web:
        assert one.place.fetch(here.address, HOST_PORT) == "published"
    assert world.published.place.fetch(here.address, HOST_PORT) == "published"
    for node in cluster.nodes:
        assert Place(node.machine).fetch(here.address, HOST_PORT) == "published"
        if node is not here:
            assert outside(cluster).hears(node.address, HOST_PORT) == "closed"


def test_images_are_those_of_this_machine(world: World) -> None:
    images = {container["image"] for one in world.web for container in one.document["spec"]["containers"]}
    assert images == {AGNHOST_IMAGE}
