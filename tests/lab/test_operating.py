"""status and sysdump on a lab: agents are asked, for every policy, and each node's kernel is in the archive."""

import json
import signal
import tarfile
from pathlib import Path

from tests.lab.cluster import Cluster

POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db}\nspec: {podSelector: {}}\n"


def test_a_lab_is_well_and_every_agent_has_every_policy(cluster: Cluster) -> None:
    assert cluster.ctl("apply", "-f", "-", stdin=POLICY).status == 0
    said = cluster.ctl("status", "--wait=60")
    assert said.status == 0, said.out + said.err
    assert "policies     1, programmed on 3 of 3 nodes" in said.out
    assert "lab_" in said.out


def test_an_agent_that_hangs_is_told_with_the_command_that_helps(cluster: Cluster) -> None:
    state = cluster.folder.running()
    agent = state.node("node-2").agent
    assert agent is not None
    agent.process.end(signal.SIGKILL)
    try:
        said = cluster.ctl("status", "-o", "json")
        assert said.status == 1, said.err
        (warning,) = json.loads(said.out)["warnings"]
        assert warning["message"] == "the agent of node-2 isn't ready: it doesn't run, or doesn't answer"
        assert warning["next"] == "tortiectl lab restart node-2"
    finally:
        assert cluster.ctl("lab", "restart", "node-2").status == 0


def test_an_archive_has_each_nodes_kernel_and_log(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "dump.tar.gz"
    said = cluster.ctl("sysdump", "--output", str(path))
    assert said.status == 0, said.err
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert names[0] == "SUMMARY.txt"
    for name in ("nodes/node-3/ipsets.txt", "nodes/node-1/agent.json", "nodes/node-2/agent.log"):
        assert name in names
    assert {"controller/controller.json", "objects/ippools.tortie.dev.json"} <= set(names)
