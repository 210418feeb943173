"""What nobody owns any more comes back, in a lab with real agents and controllers; and what lives keeps what it has.

The grace is the shortest that there is. That nothing comes back before it is measured by the test's own clock: who
reclaims can't have begun to look earlier than the test has made it so.
"""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from agent import asking
from datastore.resources.ipblock import IPBlock
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from datastore.urls import open_store
from ipam.block import Block
from lab import controller, topology
from lab.holder import enter
from lab.state import Folder, LabError
from tests.lab.cluster import Cluster
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
T = TypeVar("T")
GRACE_S = 10
LIMIT_S = 90.0
"""The grace twice (a lost DEL waits so long), the looks in it, and a margin for a loaded machine."""
CONFIGURATION = """\
apiVersion: tortie.dev/v1
kind: ClusterConfiguration
metadata: {name: default}
spec: {reclaimGraceSeconds: 10, cooldownSeconds: 0}
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    folder = Folder(Path(tempfile.mkdtemp(prefix="tt-gc-")))
    topology.up(folder, 3)
    try:
        cluster = Cluster(folder)
        cluster.done("apply", "-f", "-", stdin=CONFIGURATION)
        yield cluster
    finally:
        topology.down(folder)
        shutil.rmtree(folder.path, ignore_errors=True)


@pytest.fixture
def cluster(made: Cluster) -> Iterator[Cluster]:
    yield made
    for node in made.state.nodes:
        if node.agent is None or not node.agent.process.alive:
            made.restart_agent(node.name)
    made.clear()


def stored(cluster: Cluster, work: Callable[[Store], Awaitable[T]]) -> T:
    """Something done with the lab's datastore."""

    async def run() -> T:
        store = await open_store(cluster.folder.datastore)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def blocks(cluster: Cluster) -> list[Block]:
    async def listed(store: Store) -> list[Block]:
        return [Block.read(record) for record in (await store.list(IPBlock)).items]

    return stored(cluster, listed)


def owned(cluster: Cluster, pod: str) -> set[str]:
    """The addresses that the datastore has for a pod `namespace/name`."""
    return {
        str(block.address_of(int(ordinal)))
        for block in blocks(cluster)
        for ordinal, found in block.record.spec.allocations.items()
        if f"{found.namespace}/{found.pod}" == pod
    }


def endpoints(cluster: Cluster) -> list[str]:
    async def listed(store: Store) -> list[str]:
        return [f"{one.namespace}/{one.spec.pod}" for one in (await store.list(WorkloadEndpoint)).items]

    return stored(cluster, listed)


def eventually(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float:
    """Return, and say after how many seconds, once a condition holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, "it never came to that"
        time.sleep(0.1)
    return time.monotonic() - began


def depart(cluster: Cluster, node: str) -> float:
    """End a node's agent for good and delete its Node; gives when."""
    cluster.kill_agent(node)
    began = time.monotonic()
    cluster.done("delete", "nodes.tortie.dev", node, "--force")
    return began


def test_what_a_deleted_node_had_comes_back_after_the_grace_and_nothing_before(cluster: Cluster) -> None:
    cluster.run("shop/gone", node="node-3")
    cluster.run("shop/stays", node="node-1")
    there = owned(cluster, "shop/stays")
    assert len(owned(cluster, "shop/gone")) == len(there) == 2
    began = depart(cluster, "node-3")
    eventually(lambda: len(owned(cluster, "shop/gone")) < 2)
    assert time.monotonic() - began >= GRACE_S
    eventually(lambda: not [one for one in blocks(cluster) if one.record.spec.node == "node-3"])
    assert (owned(cluster, "shop/gone"), owned(cluster, "shop/stays")) == (set(), there)
    assert endpoints(cluster) == ["shop/stays"]
    log = cluster.folder.controller_log.read_text()
    for said in ("reclaimed 10.65.", "deleted endpoint shop/gone-", "deleted block 10.65."):
        assert said in log
    assert "of shop/gone: node node-3 departed 1" in log
    assert cluster.ctl("lab", "status").out.splitlines()[-1] == "controller leads"


def test_a_pod_that_lives_keeps_its_address_whatever_the_datastore_says_of_it(cluster: Cluster) -> None:
    """A wrong node, pod and uid in the allocation, of a node that has departed (projectcalico/calico#13538).

    The other pod's endpoint somebody has deleted while no agent could write it again: nobody can know that it lives.
    """
    cluster.run("shop/known", node="node-1")
    cluster.run("shop/unknown", node="node-1")
    known, unknown = owned(cluster, "shop/known"), owned(cluster, "shop/unknown")

    async def with_wrong_attributes(store: Store) -> None:
        for record in (await store.list(IPBlock)).items:
            changed = {
                ordinal: msgspec.structs.replace(found, node="ghost", pod=f"not-{found.pod}", uid="0")
                for ordinal, found in record.spec.allocations.items()
            }
            spec = msgspec.structs.replace(record.spec, allocations=changed)
            await store.update(msgspec.structs.replace(record, spec=spec))

    async def without_its_endpoint(store: Store) -> None:
        for found in (await store.list(WorkloadEndpoint)).items:
            if found.spec.pod == "unknown":
                await store.delete(found)

    cluster.kill_agent("node-1")
    stored(cluster, with_wrong_attributes)
    stored(cluster, without_its_endpoint)
    eventually(lambda: not owned(cluster, "shop/not-unknown"))
    assert owned(cluster, "shop/not-known") == known
    cluster.restart_agent("node-1")
    assert (owned(cluster, "shop/known"), owned(cluster, "shop/unknown")) == (known, unknown), "by the node's records"


def test_a_pod_whose_delete_never_comes_loses_its_addresses_in_the_end(cluster: Cluster) -> None:
    pod = cluster.run("shop/forgotten", node="node-2")
    assert len(owned(cluster, "shop/forgotten")) == 2
    cluster.on("node-2").run(("ip", "netns", "del", pod.netns))
    began = time.monotonic()
    eventually(lambda: not owned(cluster, "shop/forgotten"))
    assert time.monotonic() - began >= 2 * GRACE_S
    eventually(lambda: "shop/forgotten" not in endpoints(cluster))


def test_a_node_that_was_cut_off_while_its_node_was_deleted_takes_back_what_nobody_else_got(cluster: Cluster) -> None:
    cluster.run("shop/db", node="node-3", ports=["80"])
    cluster.run("shop/api", node="node-1")
    there = owned(cluster, "shop/db")
    agent = cluster.node("node-3").agent
    assert agent is not None
    agent.process.end(signal.SIGSTOP)
    try:
        cluster.ctl("delete", "nodes.tortie.dev", "node-3", "--force")  # the agent that is cut off isn't waited for
        eventually(lambda: not [one for one in blocks(cluster) if one.record.spec.node == "node-3"])
    finally:
        agent.process.end(signal.SIGCONT)
    eventually(lambda: owned(cluster, "shop/db") == there)
    eventually(lambda: "shop/db" in endpoints(cluster))
    eventually(lambda: cluster.reaches("shop/api", "shop/db", 80))


class Second:
    """Another controller, beside the lab's."""

    def __init__(self, cluster: Cluster) -> None:
        program = str(Path(sys.executable).with_name("tortie-controller"))
        self.state = cluster.folder.path / "second"
        command = (program, "--datastore", cluster.folder.datastore, "--state", str(self.state))
        self._log = (cluster.folder.path / "second.log").open("ab")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def says(self) -> dict[str, Any]:
        return dict(asking.status(self.state / "controller.sock") or {})

    def end(self) -> int:
        self.process.terminate()
        status = self.process.wait(30)
        self._log.close()
        return status


def test_a_leader_that_is_killed_is_followed_by_another_and_one_that_ends_at_once(cluster: Cluster) -> None:
    second = Second(cluster)
    try:
        eventually(lambda: bool(second.says().get("leader")))
        assert not second.says()["leads"]
        leader = cluster.state.controller
        assert leader is not None
        leader.process.end()
        assert "controller not running" in cluster.ctl("lab", "status").out
        eventually(lambda: bool(second.says()["leads"]))
        cluster.run("shop/gone", node="node-3")
        depart(cluster, "node-3")
        cluster.done("lab", "restart", "controller")
        assert (controller.status(cluster.folder) or {})["leads"] is False
        eventually(lambda: not owned(cluster, "shop/gone"))
    finally:
        assert second.end() == 0
    took_s = eventually(lambda: bool((controller.status(cluster.folder) or {}).get("leads")))
    assert took_s < LIMIT_S


def with_machine(cluster: Cluster, name: str, machine: str) -> None:
    """Another machine under a node's name, as far as the lab goes by it."""
    state = cluster.state
    nodes = tuple(msgspec.structs.replace(node, machine=machine) if node.name == name else node for node in state.nodes)
    cluster.folder.write(msgspec.structs.replace(state, nodes=nodes))


def test_a_node_that_was_re_imaged_takes_its_blocks_over_and_what_died_with_it_comes_back(cluster: Cluster) -> None:
    pod = cluster.run("shop/before", node="node-2")
    had = {one.network for one in blocks(cluster) if one.record.spec.node == "node-2"}
    depart(cluster, "node-2")
    cluster.on("node-2").run(("ip", "netns", "del", pod.netns))
    shutil.rmtree(cluster.folder.of_node("node-2"))
    cluster.folder.of_node("node-2").mkdir()
    with_machine(cluster, "node-2", "machine-re-imaged")
    try:
        began = time.monotonic()
        cluster.restart_agent("node-2")
        mine = [one.record.spec for one in blocks(cluster) if one.record.spec.node == "node-2"]
        assert ({one.cidr for one in mine}, {one.machine for one in mine}) == (
            set(map(str, had)),
            {"machine-re-imaged"},
        )
        assert len(owned(cluster, "shop/before")) == 2
        cluster.run("shop/after", node="node-2", ports=["80"])
        cluster.run("shop/api", node="node-1")
        assert cluster.reaches("shop/api", "shop/after", 80)
        eventually(lambda: not owned(cluster, "shop/before"))
        assert time.monotonic() - began >= GRACE_S
        assert len(owned(cluster, "shop/after")) == 2
    finally:
        cluster.folder.forget_pod(pod)


def test_a_second_machine_with_a_nodes_name_waits_until_the_node_is_deleted(cluster: Cluster) -> None:
    state = cluster.folder.path / "impostor"
    program = str(Path(sys.executable).with_name("tortie-agent"))
    command = (
        *(program, "--node", "node-3", "--datastore", cluster.folder.datastore, "--machine-id", "impostor"),
        *("--state", str(state), "--socket", str(state / "cni.sock"), "--node-ip", "172.30.0.3"),
    )
    refused = cluster.on("node-3").run(("sh", "-c", f"{' '.join(command)} 2>&1; echo status $?"))
    assert "status 1" in refused
    assert "belongs to machine" in refused
    advice = refused.partition("run `tortiectl ")[2].partition("`")[0]
    assert advice == "delete nodes.tortie.dev node-3 --force"
    cluster.kill_agent("node-3")
    cluster.done(*advice.split())
    inside = enter(cluster.node("node-3").keeper, rootless=cluster.state.rootless)
    agent = subprocess.Popen((*inside, *command), stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: bool((asking.status(state / "agent.sock") or {}).get("ready")))
        # The first one, come back, is refused now, and says whose the name is.
        with pytest.raises(LabError, match="belongs to machine 'impostor'"):
            cluster.restart_agent("node-3")
    finally:
        agent.kill()
        agent.wait()
        cluster.done("delete", "nodes.tortie.dev", "node-3", "--force")
