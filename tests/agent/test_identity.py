"""The Node object: a name belongs to one machine, and tells which blocks are behind it."""

import asyncio
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from agent.identity import NodeObject
from datastore import codec
from datastore.errors import NotFound, Unavailable
from datastore.memory import MemoryStore
from datastore.resources.node import Node, NodeSpec
from ipam.allocator import Allocator, Wanted
from ipam.block import Held, Owner
from ipam.handles import Handles
from ipam.identity import NameTaken
from tests.ipam.world import pool


class World:
    def __init__(self, folder: Path, machine: str = "m1", store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.allocator = Allocator(self.store, "node-1", machine)
        self.handles = Handles(folder)
        addresses = (ip_address("172.30.0.1"), ip_address("fd30::1"))
        self.object = NodeObject(self.store, "node-1", machine, addresses, self.allocator)

    async def assign(self, handle: str) -> Held:
        async with self.handles.hold(handle) as hold:
            (held,) = await self.allocator.assign(Owner(handle, "node-1"), Wanted((4,)), hold)
            hold.settle()
        return held

    async def node(self) -> Node:
        return await self.store.get(Node, "node-1")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_claiming_creates_the_node_with_its_addresses(world: World) -> None:
    await world.object.claim()
    spec = (await world.node()).spec
    assert (spec.machine, spec.addresses, spec.blocks) == ("m1", ("172.30.0.1", "fd30::1"), ())


async def test_the_same_machine_takes_its_name_up_again(world: World, tmp_path: Path) -> None:
    await world.object.claim()
    await World(tmp_path, store=world.store).object.claim()


async def test_another_machine_is_refused_until_the_node_is_deleted(world: World, tmp_path: Path) -> None:
    await world.object.claim()
    other = World(tmp_path, "m2", world.store)
    with pytest.raises(NameTaken, match=r"tortiectl delete nodes.tortie.dev node-1 --force") as refused:
        await other.object.claim()
    assert refused.value.machine == "m1"
    await world.store.delete(await world.node())
    await other.object.claim()
    assert (await world.node()).spec.machine == "m2"


async def test_blocks_follow_the_allocator_in_a_steady_order(world: World) -> None:
    await world.store.create(pool("p", "10.65.0.0/28", 30))
    await world.object.claim()
    for number in range(9):
        await world.assign(f"h{number}")
    await world.object.write()
    blocks = (await world.node()).spec.blocks
    assert len(blocks) == 3
    assert list(blocks) == sorted(blocks)
    revision = (await world.node()).revision
    await world.object.write()
    assert (await world.node()).revision == revision


async def test_fields_of_a_newer_program_survive_our_writes(world: World, tmp_path: Path) -> None:
    document = {
        "apiVersion": "tortie.dev/v1",
        "kind": "Node",
        "metadata": {"name": "node-1"},
        "spec": {"machine": "m1", "vtep": "66:00:00:00:00:01"},
    }
    await world.store.create(codec.decode(document))
    await world.object.claim()
    await world.object.write()
    assert codec.document(await world.node())["spec"]["vtep"] == "66:00:00:00:00:01"


async def test_a_node_that_was_deleted_is_written_again(world: World) -> None:
    await world.object.claim()
    await world.store.delete(await world.node())
    with pytest.raises(NotFound):
        await world.node()
    await world.store.create(pool("p", "10.65.0.0/28", 30))
    await world.assign("h")
    await world.object.write()
    assert len((await world.node()).spec.blocks) == 1


async def test_a_node_that_somebody_changed_is_put_right(world: World) -> None:
    await world.object.claim()
    found = await world.node()
    await world.store.update(
        msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, blocks=("10.1.0.0/26",)))
    )
    await world.store.create(pool("p", "10.65.0.0/30", 30))
    await world.assign("h")
    await world.object.write()
    assert (await world.node()).spec.blocks == ("10.65.0.0/30",)


class Away(MemoryStore):
    away = True

    async def update(self, resource):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        if self.away:
            raise Unavailable("the datastore is away")
        return await super().update(resource)


async def test_with_the_store_away_it_is_written_once_it_is_back(tmp_path: Path) -> None:
    store = Away()
    world = World(tmp_path, store=store)
    await world.object.claim()
    running = asyncio.ensure_future(world.object.run())
    store.away = False
    await store.create(pool("p", "10.65.0.0/30", 30))
    await world.assign("h")
    store.away = True
    world.object.soon()
    await asyncio.sleep(0.01)
    assert (await world.node()).spec.blocks == ()
    store.away = False
    async with asyncio.timeout(5):
        while not (await world.node()).spec.blocks:
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_node_that_is_lost_is_written_again_at_once(world: World) -> None:
    await world.object.claim()
    writing = asyncio.create_task(world.object.run())
    await world.store.delete(await world.node())
    world.object.lost()
    async with asyncio.timeout(5):
        while True:
            try:
                assert (await world.node()).spec.addresses == ("172.30.0.1", "fd30::1")
                break
            except NotFound:
                await asyncio.sleep(0.01)
    writing.cancel()


async def test_a_creation_is_told_and_finding_ones_own_is_not(world: World, tmp_path: Path) -> None:
    await world.object.claim()
    assert world.object.created.is_set()
    again = World(tmp_path, store=world.store)
    await again.object.claim()
    assert not again.object.created.is_set()


async def test_a_name_that_went_to_another_machine_meanwhile_is_not_written_over(world: World) -> None:
    await world.object.claim()
    found = await world.node()
    await world.store.delete(found)
    await world.store.create(msgspec.structs.replace(found, spec=NodeSpec(machine="m2")))
    await world.store.create(pool("p", "10.65.0.0/30", 30))
    await world.assign("h")
    with pytest.raises(NameTaken):
        await world.object.write()
    assert (await world.node()).spec.machine == "m2"
