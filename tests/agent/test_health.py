"""What STATUS is told of a node: the store is known to be writable only by writing, and rules by what was refused."""

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from agent.dataplane import Dataplane
from agent.health import Health
from agent.identity import NodeObject
from datastore.errors import Unavailable
from datastore.memory import MemoryStore
from datastore.resources.ippool import IPPool
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.store import Store
from datastore.sync import KindSync
from ipam.allocator import Allocator
from kernel.fake import FakeKernel
from kernel.ipset import Ipset
from kernel.iptables import Backend, Iptables
from policy.compiler import Compiler


class Unwritable(MemoryStore):
    """A store that can be made to refuse writes, or to keep them waiting."""

    refuses = False
    waits = False

    async def update(self, resource):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        while self.waits:
            await asyncio.sleep(0.001)
        if self.refuses:
            raise Unavailable("the disk is full")
        return await super().update(resource)


@dataclass
class World:
    store: Unwritable = field(default_factory=Unwritable)
    now: float = 1000.0

    def __post_init__(self) -> None:
        allocator = Allocator(self.store, "node-1", "m1")
        self.node_object = NodeObject(self.store, "node-1", "m1", (ip_address("172.30.0.1"),), allocator)
        kernel = FakeKernel()
        self.dataplane = Dataplane(Compiler("node-1"), Iptables(kernel, Backend.NFT), Ipset(kernel, kernel))
        self.sync: KindSync[Resource] = KindSync(self.store, IPPool, lambda _: None, lambda _: None)
        self.health = Health([self.sync], self.node_object, self.dataplane, lambda: self.now)

    async def later(self, seconds: float) -> str:
        self.now += seconds
        return await self.health.trouble()


@pytest.fixture
async def world() -> World:
    made = World()
    await made.node_object.claim()
    return made


async def revision(store: Store) -> str:
    return (await store.get(Node, "node-1")).revision


async def test_a_store_is_tried_once_in_a_while_and_not_at_each_question(world: World) -> None:
    before = await revision(world.store)
    assert await world.later(1) == ""
    assert await revision(world.store) == before
    assert await world.later(31) == ""
    tried = await revision(world.store)
    assert tried != before
    assert await world.later(1) == ""
    assert await revision(world.store) == tried


async def test_a_store_that_refuses_writes_is_told_until_one_succeeds(world: World) -> None:
    world.store.refuses = True
    assert "can't be written: the disk is full" in await world.later(31)
    assert "can't be written" in await world.later(0.1)
    world.store.refuses = False
    assert await world.later(0.1) == ""


async def test_after_a_failed_add_the_next_question_tries_the_store(world: World) -> None:
    world.store.refuses = True
    assert await world.later(1) == ""
    world.health.doubt()
    assert "can't be written" in await world.later(0.1)


async def test_a_store_that_does_not_answer_is_told_after_seconds_and_holds_nobody_up(world: World) -> None:
    world.store.waits = True
    async with asyncio.timeout(1):
        assert await world.later(31) == ""
        assert await world.later(3) == "the datastore doesn't answer"
    world.store.waits = False
    while world.health._trying is not None:
        await asyncio.sleep(0.001)
    assert await world.later(0.1) == ""


async def test_a_watch_that_fails_is_told_once_it_has_for_seconds(world: World) -> None:
    world.sync.failure, world.sync.failing_since = "database is locked", world.now
    assert await world.later(1) == ""
    assert "can't be watched: database is locked" in await world.later(2)
    world.sync.failure = ""
    assert await world.later(1) == ""


async def test_rules_that_were_refused_hurt_pods_until_they_are_in(world: World) -> None:
    assert world.health.hurts_pods() == ""
    world.dataplane.failure = "iptables-restore ended with 1"
    assert "rules can't be applied: iptables-restore" in world.health.hurts_pods()
