"""Nodes on a bridge, their agents, and the end of it all.

outer namespace        underlay (bridge)
|node-1       |node-2       |node-3      veth
nodes                   eth0          eth0          eth0           172.30.0.N, fd30::N
tort...       tort...                    pods
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_network

import msgspec

from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from datastore.urls import open_store
from kernel.process import Process, in_mount_namespaces, mount_namespace
from kernel.runner import CommandRunner
from lab import agents, controller, external, forward
from lab.holder import enter, keepers, start_node, start_outer
from lab.pods import write_conflist
from lab.state import MAX_NODES, SUBNET_IPV4, SUBNET_IPV6, Folder, LabError, LabNode, LabState

POOLS = {"default-ipv4": "10.65.0.0/16", "default-ipv6": "fd65::/48"}
_END_S = 5.0
"""How long ended processes have to be gone; SIGKILL leaves them no choice."""


def up(folder: Folder, nodes: int, datastore: str = "", reach: Iterable[str] = ()) -> LabState:
    """Make a lab and wait until every node serves, and a controller leads.

    Its datastore is a file of its own, or another's that has no nodes; `reach` are servers as HOST:PORT, besides those
    that its address names, to which the nodes are to have a way.

    Raises:
        LabError: one runs here already, or it can't be made; nothing of it is left then.
        Invalid, UnsupportedDatastore, StoreError: the datastore can't be used; the same.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}", status=2)
    before = folder.read()
    if before is not None and before.holder.process.alive:
        raise LabError(f"a lab runs at {folder.path} already", "end it: tortiectl lab down")
    servers = forward.servers(datastore, reach)
    if datastore:
        asyncio.run(external.check(datastore))
    down(folder)
    folder.make()
    try:
        return _make(folder, nodes, datastore, servers)
    except BaseException:
        down(folder)
        shutil.rmtree(folder.path, ignore_errors=True)  # made here, and perhaps not yet known as a lab's
        raise


def down(folder: Folder) -> list[str]:
    """End every process of the lab and remove its folder; gives what was ended, in words.

    Raises:
        LabError: a process doesn't end.
    """
    state, identity, pods = folder.read(), folder.identity, folder.pods()
    if state is None and not identity:
        return []
    nodes = state.nodes if state is not None else ()
    for node in nodes:
        if node.agent is not None:
            node.agent.process.end(signal.SIGTERM)
    recorded = [record for node in nodes for record in (node.keeper, node.agent)] + [pod.server for pod in pods]
    if state is not None:
        controller.end(state)
        recorded += [state.holder, state.controller, state.forwarder]
    _end(identity, [record.process for record in recorded if record is not None and record.process.alive])
    left = external.leave(state) if state is not None and state.datastore else []
    shutil.rmtree(folder.path)
    return left + [f"node {node.name}" for node in nodes] + [f"pod {pod.namespace}/{pod.name}" for pod in pods]


def _make(folder: Folder, count: int, datastore: str, servers: Sequence[forward.Server]) -> LabState:
    holder, rootless = start_outer(folder)
    state = LabState(holder=holder, rootless=rootless, datastore=datastore)
    folder.write(state)
    outside = CommandRunner(enter(holder, rootless=rootless))
    outside.run(("ip", "link", "add", "underlay", "type", "bridge"))
    outside.run(("ip", "link", "set", "underlay", "up"))
    for number in range(1, count + 1):
        state = msgspec.structs.replace(state, nodes=(*state.nodes, _node(folder, state, number)))
        folder.write(state)
    state = controller.forward(folder, state, servers)
    state = msgspec.structs.replace(state, pools=asyncio.run(_write_pools(folder)))
    folder.write(state)
    write_conflist(folder)
    state = agents.start_all(folder, controller.start(folder, state))
    controller.wait(folder, state)
    return state


def _node(folder: Folder, state: LabState, number: int) -> LabNode:
    name = f"node-{number}"
    folder.of_node(name).mkdir(mode=0o700, exist_ok=True)
    keeper = start_node(state, folder)
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


async def _write_pools(folder: Folder) -> tuple[str, ...]:
    """Make a pool of each family that has none; gives their names."""
    store = await open_store(folder.datastore)
    try:
        there = {ip_network(pool.spec.cidr).version for pool in (await store.list(IPPool)).items}
        missing = {name: cidr for name, cidr in POOLS.items() if ip_network(cidr).version not in there}
        for name, cidr in missing.items():
            await store.create(IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr)))
    finally:
        await store.close()
    return tuple(missing)


def _end(identity: str, recorded: Iterable[Process]) -> None:
    """End the lab's processes: those recorded, its keepers, and whatever is in a mount namespace with one of them.

    A keeper that has just been started may still be in the mount namespace that everybody else is in: ours is left out.
    The others are held open meanwhile: the kernel gives the number of one that is gone to the next that anybody makes.
    """
    ours = {mount_namespace(os.getpid())}
    with contextlib.suppress(OSError):
        ours.add(mount_namespace(1))
    with contextlib.ExitStack() as held:
        _end_all(identity, recorded, ours, held)


def _end_all(identity: str, recorded: Iterable[Process], ours: set[int], held: contextlib.ExitStack) -> None:
    inodes: set[int] = set()
    limit = time.monotonic() + _END_S
    while True:
        left = {process for process in {*recorded, *keepers(identity)} if process.alive}
        for process in left:
            with contextlib.suppress(OSError):
                if mount_namespace(process.pid) not in inodes | ours:
                    fd = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                    held.callback(os.close, fd)
                    inodes.add(os.fstat(fd).st_ino)
        left.update(in_mount_namespaces(frozenset(inodes - ours)))
        if not left:
            return
        if time.monotonic() > limit:
            raise LabError(f"process {min(one.pid for one in left)} doesn't end", "end it by hand, and try again")
        for process in left:
            process.end()
        time.sleep(0.01)
