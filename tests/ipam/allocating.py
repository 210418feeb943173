"""Nodes of one store that answers, for tests of what an allocator gives and takes back."""

import asyncio
from ipaddress import ip_address
from pathlib import Path

from datastore.memory import MemoryStore
from ipam.allocator import IDLE_S, Wanted
from ipam.block import Among, Held, Owner
from tests.ipam.world import Clock, Node, Pending, pool

V4, V6, BOTH = Wanted((4,)), Wanted((6,)), Wanted((4, 6))


class World:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self._folder = folder

    async def pools(self, *pools: tuple[str, str, int | None]) -> None:
        for name, cidr, block_size in pools:
            await self.store.create(pool(name, cidr, block_size))

    async def node(self, name: str = "node-1") -> Node:
        node = Node(name, self.store, self._folder, self.clock)
        await node.allocator.load()
        return node

    async def add(self, node: Node, handle: str, wanted: Wanted = V4) -> tuple[Held, ...]:
        async with node.handles.hold(handle) as hold:
            held = await node.allocator.assign(Owner(handle, "node-1"), wanted, hold)
            hold.settle()
        return held


async def with_an_idle_block(world: World) -> Node:
    await world.pools(("p", "10.65.0.0/28", 29))
    node = await world.node("node-1")
    await node.allocator.release(await world.add(node, "a"))
    world.clock.now += IDLE_S
    return node


async def nothing_to_withdraw() -> None:
    pass


async def waiting(node: Node) -> Pending:
    """The next call of a node whose gate is closed."""
    while not node.gate.waiting:
        await asyncio.sleep(0)
    return node.gate.waiting.pop(0)


def only(address: str) -> Wanted:
    return Wanted((4,), among={4: Among.only(ip_address(address))})
