"""What an administrator asks once it runs: how it is, whether pods reach each other; an archive for whoever helps."""

import json
import tarfile
from pathlib import Path

from tests.e2e.tortie import NAMESPACE, kubectl_tortie
from tests.kube.whole.cluster import Cluster


def test_all_is_well_by_kubernetes_agents_and_store(cluster: Cluster) -> None:
    said = kubectl_tortie(cluster, "status", "--wait=120", "-o", "json")
    assert said.status == 0, said.out + said.err
    found = json.loads(said.out)
    assert {one["name"]: one["status"] for one in found["nodes"]} == dict.fromkeys(
        ("node-1", "node-2", "node-3"), "ready"
    )
    assert found["policies"]["agentsProgrammed"] == found["policies"]["agentsAsked"] == 3


def test_pods_reach_each_other_as_they_must_and_nothing_stays(cluster: Cluster) -> None:
    said = kubectl_tortie(cluster, "connectivity", "test", "--timeout", "120")
    assert said.status == 0, said.out + said.err
    assert "one allowed: " in said.out
    namespaces = [one["metadata"]["name"] for one in cluster.api.items("/api/v1/namespaces")]
    assert not [name for name in namespaces if name.startswith("tortie-test")]


def test_an_archive_has_every_agents_log(cluster: Cluster, tmp_path: Path) -> None:
    said = kubectl_tortie(cluster, "sysdump", "--output", tmp_path / "dump.tar.gz")
    assert said.status == 0, said.err
    with tarfile.open(tmp_path / "dump.tar.gz") as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert names[0] == "SUMMARY.txt"
    assert len([name for name in names if name.startswith("logs/tortie-agent") and name.endswith("/agent.log")]) == 3
    assert f"{NAMESPACE}/daemonsets.json" in names
