"""Nodes on a bridge, their agents, and the end of it all.

outer namespace        underlay (bridge)
|node-1       |node-2       |node-3      veth
nodes                   eth0          eth0          eth0           172.30.0.N, fd30::N
tort...       tort...                    pods
"""

import asyncio
import secrets
import shutil
import signal
import time
from collections.abc import Iterable

import msgspec

from datastore.errors import AlreadyExists
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from datastore.urls import open_store
from kernel.process import in_mount_namespaces, mount_namespace
from kernel.runner import CommandRunner
from lab import agents
from lab.holder import enter, start_node, start_outer
from lab.pods import write_conflist
from lab.state import MAX_NODES, SUBNET_IPV4, SUBNET_IPV6, Folder, LabError, LabNode, LabState, ProcessRecord

POOLS = {"default-ipv4": "10.65.0.0/16", "default-ipv6": "fd65::/48"}
_END_S = 5.0
"""How long ended processes have to be gone; SIGKILL leaves them no choice."""


def up(folder: Folder, nodes: int) -> LabState:
    """Make a lab and wait until every node serves.

    Raises:
        LabError: one runs here already, or it can't be made; nothing of it is left then.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}", status=2)
    before = folder.read()
    if before is not None and before.holder.process.alive:
        raise LabError(f"a lab runs at {folder.path} already", "end it: tortiectl lab down")
    if before is not None:
        down(folder)
    folder.make()
    try:
        return _make(folder, nodes)
    except BaseException:
        down(folder)
        shutil.rmtree(folder.path, ignore_errors=True)  # made here, and perhaps not yet known as a lab's
        raise


def down(folder: Folder) -> list[str]:
    """End every process of the lab and remove its folder; gives what was ended, in words.

    Raises:
        LabError: a process doesn't end.
    """
    state = folder.read()
    if state is None:
        return []
    ended = [f"node {node.name}" for node in state.nodes] + [f"pod {pod.namespace}/{pod.name}" for pod in folder.pods()]
    for node in state.nodes:
        if node.agent is not None:
            node.agent.process.end(signal.SIGTERM)
    keepers = [state.holder, *(node.keeper for node in state.nodes)]
    _end(keepers)
    shutil.rmtree(folder.path)
    return ended


def _make(folder: Folder, count: int) -> LabState:
    holder, rootless = start_outer(folder.path)
    state = LabState(holder=holder, rootless=rootless)
    folder.write(state)
    outside = CommandRunner(enter(holder, rootless=rootless))
    outside.run(("ip", "link", "add", "underlay", "type", "bridge"))
    outside.run(("ip", "link", "set", "underlay", "up"))
    for number in range(1, count + 1):
        state = msgspec.structs.replace(state, nodes=(*state.nodes, _node(folder, state, number)))
        folder.write(state)
    asyncio.run(_write_pools(folder))
    write_conflist(folder)
    return agents.start_all(folder, state)


def _node(folder: Folder, state: LabState, number: int) -> LabNode:
    name = f"node-{number}"
    folder.of_node(name).mkdir(mode=0o700, exist_ok=True)
    keeper = start_node(state, folder.path)
    addresses = (f"{SUBNET_IPV4}{number}", f"{SUBNET_IPV6}{number}")
    outside = CommandRunner(enter(state.holder, rootless=state.rootless))
    inside = CommandRunner(enter(keeper, rootless=state.rootless))
    outside.run(("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid)))
    outside.run(("ip", "link", "set", name, "master", "underlay", "up"))
    lines = (
        "link set eth0 up",
        f"addr add {addresses[0]}/24 dev eth0",
        f"addr add {addresses[1]}/64 dev eth0 nodad",
    )
    inside.run(("ip", "-batch", "-"), "\n".join([*lines, ""]))
    return LabNode(name, keeper, addresses, machine=f"lab-{secrets.token_hex(8)}")


async def _write_pools(folder: Folder) -> None:
    store = await open_store(folder.datastore)
    try:
        for name, cidr in POOLS.items():
            try:
                await store.create(IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr)))
            except AlreadyExists:
                continue
    finally:
        await store.close()


def _end(keepers: Iterable[ProcessRecord]) -> None:
    """End whatever is in the keepers' mount namespaces, keepers last."""
    alive = [keeper.process for keeper in keepers if keeper.process.alive]
    inodes = frozenset(mount_namespace(process.pid) for process in alive)
    for process in [*in_mount_namespaces(inodes), *alive]:
        process.end()
    limit = time.monotonic() + _END_S
    while left := list(in_mount_namespaces(inodes)):
        if time.monotonic() > limit:
            raise LabError(f"process {left[0].pid} doesn't end", f"look at /proc/{left[0].pid}")
        for process in left:
            process.end()
        time.sleep(0.01)
