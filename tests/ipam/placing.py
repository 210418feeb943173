"""Nodes whose pools are as full as a test says, and what work there costs in calls."""

import asyncio
import itertools
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import msgspec

from datastore.memory import MemoryStore
from datastore.resources.ippool import IPPool
from ipam.allocator import Settings, Wanted
from ipam.block import Among, Held, Owner, new_block
from ipam.pools import Pool, cells
from tests.ipam.world import Clock, Fate, Node, pool

V4, V6, BOTH = Wanted((4,)), Wanted((6,)), Wanted((4, 6))
POOL = pool("p", "10.65.0.0/16")
LARGE = IPv4Network("10.65.0.0/16")


def only(*addresses: str) -> Wanted:
    among: dict[int, Among] = {ip_address(text).version: Among.only(ip_address(text)) for text in addresses}
    return Wanted(tuple(sorted(among)), among=among)


class World:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self.folder = folder

    async def start(self, *pools: IPPool) -> "World":
        for one in pools:
            await self.store.create(one)
        return self

    async def node(self, name: str = "node-1", *, strict: bool = False, most: int = 0) -> Node:
        node = Node(name, self.store, self.folder, self.clock)
        node.allocator.set_pools((await self.store.list(IPPool)).items)
        node.allocator.settings = Settings(strict_affinity=strict, max_blocks=most)
        await node.allocator.load()
        return node

    async def fill(self, network: IPv4Network, count: int, node: str, owned: int | None = None) -> None:
        """The first `count` /26 blocks of a network, ready, with so many addresses owned (none said: all)."""
        for number, cidr in zip(range(count), network.subnets(new_prefix=26), strict=False):
            made = new_block(cidr, "p", node, f"machine-{node}", self.clock.now).made_ready()
            allocations = {}
            for ordinal in range(cidr.num_addresses if owned is None else owned):
                one, _ = made.assign(Owner(f"old-{number}-{ordinal}", node), f"{number:08x}{ordinal:08x}", 0, 0)
                allocations[str(ordinal)] = one.record.spec.allocations["0"]
            spec = msgspec.structs.replace(made.record.spec, allocations=allocations, fresh=len(allocations))
            await self.store.create(msgspec.structs.replace(made.record, spec=spec))


async def add(node: Node, handle: str, wanted: Wanted = V4) -> tuple[Held, ...]:
    async with node.handles.hold(handle) as hold:
        held = await node.allocator.assign(Owner(handle, node.name, f"pod-{handle}", "shop"), wanted, hold)
        hold.settle()
    return held


async def calls_of(node: Node, *works: object, refused: type[Exception] | None = None) -> list[str]:
    """The store calls of some work, each answered as it comes; the work may be bound to be refused."""
    node.gate.open = False
    task = asyncio.gather(*works, return_exceptions=True)  # type: ignore[call-overload]
    calls: list[str] = []
    while not task.done():
        for pending in list(node.gate.waiting):
            node.gate.waiting.remove(pending)
            calls.append(pending.name)
            pending.fate.set_result(Fate.OK)
        await asyncio.sleep(0)
    node.gate.open = True
    for outcome in await task:
        if isinstance(outcome, BaseException) and not (refused and isinstance(outcome, refused)):
            raise outcome
        assert isinstance(outcome, BaseException) is (refused is not None)
    return calls


def looking_first_in(cell: IPv4Network) -> str:
    """A node that begins to look for a block there."""
    names = (f"node-{number}" for number in itertools.count())
    return next(name for name in names if next(cells(Pool("p", LARGE, 26), name)) == cell)
