"""A cluster administrator's first minutes: nodes that are NotReady become Ready by one command."""

import json

from tests.e2e.documents import agnhost, apply, pod, remove
from tests.e2e.running import all_running
from tests.e2e.tortie import AGENT, CONTROLLER, NAMESPACE, Installed, program_pods, settle
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.settings import CNI_CONFIG

READY_WITHIN_S = 90.0
"""Of three nodes on two processors."""


def test_nodes_become_ready(installed: Installed) -> None:
    assert installed.ready_before == frozenset()
    assert installed.cluster.ready_nodes() == {"node-1", "node-2", "node-3"}
    assert installed.seconds < READY_WITHIN_S


def test_every_node_has_an_agent_and_one_leads(cluster: Cluster) -> None:
    agents = program_pods(cluster, AGENT)
    assert agents.keys() == {"node-1", "node-2", "node-3"}
    assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in agents.values())
    assert len(program_pods(cluster, CONTROLLER)) >= 1
    leases = cluster.api.items(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")
    assert [lease["metadata"]["name"] for lease in leases if lease["spec"].get("holderIdentity")] == [CONTROLLER]


def test_nothing_of_it_waits_for_an_image_or_the_network(cluster: Cluster) -> None:
    for one in cluster.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"):
        if one["metadata"]["name"].startswith(AGENT):
            assert one["spec"]["hostNetwork"]
            assert one["spec"]["priorityClassName"] == "system-node-critical"


def test_the_long_lived_container_has_few_rights(cluster: Cluster) -> None:
    for one in program_pods(cluster, AGENT).values():
        for container in one["spec"]["containers"]:
            context = container["securityContext"]
            assert not context.get("privileged")
            assert sorted(context["capabilities"].get("add", [])) == ["NET_ADMIN", "NET_RAW"]
            assert context["readOnlyRootFilesystem"]


def test_a_node_says_that_its_network_is_there(cluster: Cluster) -> None:
    for one in cluster.api.items("/api/v1/nodes"):
        conditions = {condition["type"]: condition["status"] for condition in one["status"]["conditions"]}
        assert conditions.get("NetworkUnavailable", "False") == "False"
        assert not [taint for taint in one["spec"].get("taints", []) if "network" in taint["key"]]


def test_each_node_has_the_conflist_of_the_config_map(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/tortie-conflist"
    wanted = json.loads(cluster.api.get(path)["data"]["10-tortie.conflist"])
    for node in cluster.nodes:
        assert node.run("ls", CNI_CONFIG).split() == ["10-tortie.conflist"]
        assert json.loads(node.run("cat", f"{CNI_CONFIG}/10-tortie.conflist")) == wanted


def test_peers_know_addresses_from_the_pods_annotation(cluster: Cluster) -> None:
    first = pod("first", agnhost(), node="node-2")
    apply(cluster, first)
    (running,) = all_running(cluster, "app=first", 1)
    annotations = running.document["metadata"].get("annotations", {})
    assert tuple(json.loads(annotations["cni.tortie.dev/podIPs"])) == running.addresses
    remove(cluster, first)
    settle(cluster)
