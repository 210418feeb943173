"""What others put in the way, and versions that don't go together: told with the next command, and nothing half done.

Each test does what it was told to do next, and finds the cluster well again.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.documents import agnhost, apply, pod, remove
from tests.e2e.running import all_running, eventually
from tests.e2e.tortie import AGENT, MANIFESTS, NAMESPACE, kubectl_tortie, owned, program_pods, rolled, settle
from tests.host import ROOT
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.node import Node
from tests.kube.whole.settings import CNI_BIN, CNI_CONFIG

pytestmark = pytest.mark.timeout(600)
_OTHER = f"{CNI_CONFIG}/05-other.conflist"
_POOL = "/apis/tortie.dev/v1/ippools/default-ipv4"
_POOLS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools.tortie.dev"
_RESERVATIONS = "ipreservations.tortie.dev"
_TOLD_WITHIN_S = 60.0
_UNREACHABLE = 3


def told(cluster: Cluster, *words: str, status: int = 1) -> None:
    """Until `kubectl tortie status` ends so, in a line with all these words."""
    said = ""

    def look() -> bool:
        nonlocal said
        found = kubectl_tortie(cluster, "status")
        said = f"{found.status}: {found.out}{found.err}"
        return found.status == status and any(all(word in line for word in words) for line in said.splitlines())

    try:
        eventually(f"status says {words}", look, _TOLD_WITHIN_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {said}") from None


def well(cluster: Cluster) -> None:
    said = kubectl_tortie(cluster, "status", "--wait=90")
    assert said.status == 0, said.out + said.err


@pytest.fixture(scope="module")
def stays(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Two pods that were there before, and reach each other whatever happens."""
    documents = [pod(name, agnhost(), node=node, app="stays") for name, node in (("a", "node-1"), ("b", "node-2"))]
    apply(cluster, *documents)
    a, b = all_running(cluster, "app=stays", 2)

    def reach() -> None:
        assert (a.place.fetch(b.address), b.place.fetch(a.address)) == ("b", "a")

    yield reach
    remove(cluster, *documents)
    settle(cluster)


def comes(cluster: Cluster, node: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """A new pod gets an address of ours, after `meanwhile`."""
    document = pod("comes", agnhost(), node=node)
    apply(cluster, document)
    try:
        meanwhile()
        (found,) = all_running(cluster, "app=comes", 1)
        assert owned(cluster).get(found.address) == "default/comes"
    finally:
        remove(cluster, document)


def events(cluster: Cluster, reason: str, namespace: str = "default") -> list[str]:
    found = cluster.api.items(f"/api/v1/namespaces/{namespace}/events")
    return [str(one["message"]) for one in found if one["reason"] == reason]


@pytest.fixture
def other_network(cluster: Cluster) -> Iterator[Node]:
    """A node with another network's conflist, which sorts before ours."""
    node = cluster.node(1)
    bridge = {"type": "bridge", "bridge": "other0", "ipam": {"type": "host-local", "subnet": "10.99.0.0/24"}}
    other = {"cniVersion": "1.0.0", "name": "other", "plugins": [bridge]}
    node.machine.write(_OTHER, json.dumps(other))
    yield node
    node.run("rm", "-f", _OTHER, f"{_OTHER}.disabled")


def test_another_networks_conflist_that_sorts_first(
    cluster: Cluster, other_network: Node, stays: Callable[[], None]
) -> None:
    told(cluster, "wrong", "node-1", "05-other.conflist", f"mv {_OTHER} {_OTHER}.disabled")
    eventually("the Event", lambda: any(_OTHER in one for one in events(cluster, "ForeignCNIConfigDetected")))
    stays()
    other_network.run("mv", _OTHER, f"{_OTHER}.disabled")
    well(cluster)
    comes(cluster, "node-1")


@pytest.fixture
def tomorrows_relay(tmp_path: Path) -> Path:
    """A relay of another protocol, as static as ours."""
    made = tmp_path / "tortie"
    compiler = os.environ.get("CC", "cc")
    subprocess.run((compiler, "-static", '-DPROTOCOL="2"', "-o", made, ROOT / "cni" / "relay.c"), check=True)
    return made


def test_a_relay_of_another_version(cluster: Cluster, tomorrows_relay: Path, stays: Callable[[], None]) -> None:
    node = cluster.node(2)
    before, refusal = _links(node), "speaks protocol '2'"
    node.machine.copy(tomorrows_relay, f"{CNI_BIN}/tortie.new")
    node.run("chmod", "755", f"{CNI_BIN}/tortie.new")
    node.run("mv", f"{CNI_BIN}/tortie.new", f"{CNI_BIN}/tortie")

    def refused() -> None:
        told(cluster, "wrong", "node-2", f"kubectl -n {NAMESPACE} rollout restart daemonset/{AGENT}")
        eventually("the Event", lambda: any(refusal in one for one in events(cluster, "FailedCreatePodSandBox")))
        assert _links(node) == before
        assert "default/comes" not in owned(cluster).values()
        stays()
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", f"daemonset/{AGENT}")
        rolled(cluster, f"daemonset/{AGENT}")

    comes(cluster, "node-2", refused)
    well(cluster)


def test_definitions_older_than_the_programs(cluster: Cluster, stays: Callable[[], None]) -> None:
    definition = cluster.api.get(_POOLS)
    (version,) = definition["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]
    cluster.api.merge(_POOLS, {"spec": {"versions": [version]}})
    next_ = "kubectl apply --server-side -k manifests/crds"
    told(cluster, "wrong", "ippools.tortie.dev", "status.conditions", next_)
    stays()
    cluster.kubectl("delete", "crd", _RESERVATIONS)
    told(cluster, _RESERVATIONS, next_, status=_UNREACHABLE)
    comes(cluster, "node-1", stays)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", MANIFESTS / "crds")
    well(cluster)
    eventually("the pool says how it is", lambda: "conditions" in cluster.api.get(_POOL)["status"], _TOLD_WITHIN_S)


@pytest.fixture
def second_agent(cluster: Cluster) -> Iterator[Document]:
    """Another agent with the name, the folders and the account of node-3's."""
    spec = program_pods(cluster, AGENT)["node-3"]["spec"]
    (container,) = spec["containers"]
    arguments = [one for one in container["args"] if one not in ("--http", ":9470")]
    second = {key: container[key] for key in ("name", "image", "command", "env", "securityContext")}
    mounts = [one for one in container["volumeMounts"] if not one["name"].startswith("kube-api-access")]
    volumes = [one for one in spec["volumes"] if not one["name"].startswith("kube-api-access")]
    document = pod(
        "second",
        {
            "containers": [{**second, "args": arguments, "volumeMounts": mounts}],
            "volumes": volumes,
            "serviceAccountName": AGENT,
            "hostNetwork": True,
            "restartPolicy": "Never",
        },
        node="node-3",
        in_namespace=NAMESPACE,
    )
    apply(cluster, document)
    yield document
    remove(cluster, document)


def test_two_agents_with_one_nodes_name(cluster: Cluster, second_agent: Document, stays: Callable[[], None]) -> None:
    def ended() -> bool:
        (found,) = cluster.pods("app=second", NAMESPACE)
        return str(found["status"]["phase"]) == "Failed"

    eventually("the second ends", ended, _TOLD_WITHIN_S)
    said = cluster.kubectl("-n", NAMESPACE, "logs", "second")
    assert "another tortie-agent serves this node already" in said
    assert "kubectl get daemonsets -A -l app.kubernetes.io/name=tortie-agent" in said
    comes(cluster, "node-3", stays)
    well(cluster)


def _links(node: Node) -> list[str]:
    return [line.split(": ")[1] for line in node.run("ip", "-o", "link").splitlines() if ": tort" in line]
