"""Uninstalled as the documentation says: nodes are NotReady again, and as they were before."""

from tests.e2e.running import eventually
from tests.e2e.tortie import MANIFESTS, NAMESPACE, Installed, traces
from tests.host import BIN
from tests.kube.whole.cluster import Cluster


def test_nodes_are_as_they_were(cluster: Cluster, installed: Installed) -> None:
    cluster.kubectl("delete", "deployments,pods,services,networkpolicies", "--all", "--wait")
    cluster.kubectl("delete", "-k", MANIFESTS, "--ignore-not-found", "--wait")
    assert cluster.api.ask("GET", f"/api/v1/namespaces/{NAMESPACE}")[0] == 404
    for node in cluster.nodes:
        before, used = installed.traces_before[node.name], traces(node)
        assert used - before
        assert node.run(BIN / "tortiectl", "node", "cleanup", "--dry-run")
        assert traces(node) == used
        node.run(BIN / "tortiectl", "node", "cleanup")
        cleaned = traces(node)
        assert (sorted(cleaned - before), sorted(before - cleaned)) == ([], [])


def test_nodes_are_not_ready_without_a_network(cluster: Cluster) -> None:
    eventually("nodes are NotReady", lambda: not cluster.ready_nodes(), 60.0)
