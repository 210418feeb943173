"""Uninstalled as docs/kubernetes.md says: nodes are NotReady again, and as they were before."""

import pytest

from tests.e2e.running import eventually
from tests.e2e.tortie import AGENT, CONTROLLER, MANIFESTS, NAMESPACE, Installed, traces
from tests.host import BIN
from tests.kube.whole.cluster import Cluster

_CLEANUP = MANIFESTS / "cleanup"
_STAYS = {"file /run/tortie", "file /var/lib/tortie"}
"""Empty: a folder that is mounted in a container can't be removed from there."""


@pytest.fixture(scope="module", autouse=True)
def without_agents(cluster: Cluster) -> None:
    cluster.kubectl("delete", "deployments,pods,services,networkpolicies", "--all", "--wait")
    cluster.kubectl("-n", NAMESPACE, "delete", f"daemonset/{AGENT}", f"deployment/{CONTROLLER}", "--wait")
    eventually(
        "our programs have ended", lambda: not cluster.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"), seconds=60.0
    )


def test_a_dry_run_changes_nothing(cluster: Cluster, installed: Installed) -> None:
    node = cluster.nodes[0]
    used = traces(node)
    assert used - installed.traces_before[node.name]
    assert node.run(BIN / "tortiectl", "node", "cleanup", "--dry-run")
    assert traces(node) == used


def test_nodes_are_as_they_were(cluster: Cluster, installed: Installed) -> None:
    cluster.kubectl("apply", "-k", _CLEANUP)
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/tortie-cleanup", "--timeout=120s")
    cluster.kubectl("delete", "-k", _CLEANUP, "--wait")
    cluster.kubectl("delete", "-k", MANIFESTS, "--ignore-not-found", "--wait")
    assert cluster.api.ask("GET", f"/api/v1/namespaces/{NAMESPACE}")[0] == 404
    for node in cluster.nodes:
        before, cleaned = installed.traces_before[node.name], traces(node)
        assert (sorted(cleaned - before - _STAYS), sorted(before - cleaned)) == ([], [])


def test_nodes_are_not_ready_without_a_network(cluster: Cluster) -> None:
    eventually("nodes are NotReady", lambda: not cluster.ready_nodes(), 60.0)
