"""A datastore that is being left: frozen blocks change no more, and no new ones come, however the steps interleave."""

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datastore.errors import Conflict, NotFound
from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec, Migration
from datastore.resources.ipblock import IPBlock
from datastore.resources.value import Metadata
from datastore.store import Store
from ipam.allocator import IDLE_S, Settings, Wanted
from ipam.block import Held, Owner, new_block
from ipam.errors import Frozen, IpamError, Migrating
from tests.ipam.world import Clock, Fate, Gate, GatedStore, Node, blocks_of, owners, pool

V4 = Wanted((4,))
LEAVING = ClusterConfigurationSpec(migration=Migration(id="m1", to="etcd://elsewhere"))


class World:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self._folder = folder

    async def node(self, name: str = "node-1") -> Node:
        node = Node(name, self.store, self._folder, self.clock)
        await node.allocator.load()
        return node


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.store.create(pool("p", "10.65.0.0/28", 30))
    return made


async def add(node: Node, handle: str) -> tuple[Held, ...]:
    async with node.handles.hold(handle) as hold:
        held = await node.allocator.assign(Owner(handle, node.name), V4, hold)
        hold.settle()
    return held


async def migrate(store: Store, *, over: bool = False) -> None:
    """Say that the datastore is being left, then freeze every block; or the other way round."""
    name = "default"
    try:
        there = await store.get(ClusterConfiguration, name)
        spec = msgspec.structs.replace(there.spec, migration=None if over else LEAVING.migration)
        await store.update(msgspec.structs.replace(there, spec=spec))
    except NotFound:
        await store.create(ClusterConfiguration(metadata=Metadata(name=name), spec=LEAVING))
    for record in (await store.list(IPBlock)).items:
        await _freeze(store, record, "" if over else "m1")


async def _freeze(store: Store, record: IPBlock, by: str) -> None:
    for _ in range(20):
        try:
            await store.update(msgspec.structs.replace(record, spec=msgspec.structs.replace(record.spec, frozen=by)))
            return
        except Conflict:
            record = await store.get(IPBlock, record.name)
        except NotFound:
            return
    raise AssertionError("the block never rested")


async def test_nothing_is_given_adopted_or_freed_until_the_blocks_thaw(world: World) -> None:
    node = await world.node()
    held = await add(node, "a")
    await migrate(world.store)
    for _ in range(2):
        with pytest.raises(Frozen):
            await add(node, "b")
        with pytest.raises(Frozen):
            await add(node, "a")
        with pytest.raises(Frozen):
            await node.allocator.release(held)
        with pytest.raises(Frozen):
            await node.allocator.release_handle("a")
    assert await owners(world.store) == {held[0].address: "a"}
    await migrate(world.store, over=True)
    again = await add(node, "a")
    assert again[0].address == held[0].address
    await node.allocator.release(again)
    await add(node, "b")
    assert list((await owners(world.store)).values()) == ["b"]


async def test_one_change_that_meets_a_thaw_reads_the_block_once_more(world: World) -> None:
    node = await world.node()
    await add(node, "a")
    await migrate(world.store)
    with pytest.raises(Frozen):
        await add(node, "b")
    await migrate(world.store, over=True)
    assert await add(node, "b")


async def test_releasing_what_is_gone_succeeds_although_the_block_is_frozen(world: World) -> None:
    node = await world.node()
    (a,), _ = await add(node, "a"), await add(node, "b")
    await node.allocator.release([a])
    await migrate(world.store)
    await node.allocator.release([a])
    with pytest.raises(Frozen):
        await node.allocator.release([a], certain=False)


async def test_an_address_of_another_nodes_frozen_block_is_not_borrowed(world: World) -> None:
    first, second = await world.node("node-1"), await world.node("node-2")
    for number in range(13):
        await add(first, f"h{number}")
    for record in (await world.store.list(IPBlock)).items:
        await _freeze(world.store, record, "m1")
    with pytest.raises(Frozen):
        await add(second, "b")


async def test_a_claim_is_refused_before_it_begins_where_the_watch_has_told_and_leaves_nothing_where_it_has_not(
    world: World,
) -> None:
    node = await world.node()
    await migrate(world.store)
    with pytest.raises(Migrating, match="migration m1"):
        await add(node, "a")
    assert await blocks_of(world.store) == []
    node.allocator.settings = Settings.of(LEAVING)
    node.gate.open = False  # a call of the store would wait for ever, but for the list of pools
    task = asyncio.ensure_future(add(node, "a"))
    while not node.gate.waiting:
        await asyncio.sleep(0)
    node.gate.waiting.pop().fate.set_result(Fate.OK)
    with pytest.raises(Migrating):
        await asyncio.wait_for(task, 10)


async def test_status_says_that_the_datastore_is_being_left(world: World) -> None:
    node = await world.node()
    await add(node, "a")
    await node.allocator.check_room(V4)
    node.allocator.settings = Settings.of(LEAVING)
    with pytest.raises(Migrating):
        await node.allocator.check_room(V4)


async def test_an_unready_block_left_by_a_dead_claim_is_not_taken_up(world: World) -> None:
    node = await world.node()
    left = new_block(ip_network("10.65.0.0/30"), "p", "node-1", "machine-node-1", world.clock.now)
    await migrate(world.store)
    await world.store.create(left.record)  # by a claimer that died before it could read of the migration
    with pytest.raises(Migrating):
        await add(node, "a")
    assert await blocks_of(world.store) == []


async def test_a_frozen_unready_block_stays_as_it_is(world: World) -> None:
    node = await world.node()
    left = new_block(ip_network("10.65.0.0/30"), "p", "node-1", "machine-node-1", world.clock.now)
    await world.store.create(left.record)
    await migrate(world.store)
    with pytest.raises(Frozen):
        await add(node, "a")
    assert [block.record.spec.frozen for block in await blocks_of(world.store)] == ["m1"]


@pytest.mark.parametrize("seen", [pytest.param(True, id="seen"), pytest.param(False, id="behind the mirror's back")])
async def test_a_frozen_block_is_not_given_back(world: World, seen: bool) -> None:
    node = await world.node()
    held = await add(node, "a")
    await node.allocator.release(held)
    await migrate(world.store)
    if seen:
        await node.allocator.load()
    world.clock.now += 2 * IDLE_S
    withdrawn: list[int] = []

    async def withdraw() -> None:
        withdrawn.append(1)

    assert await node.allocator.give_back(withdraw) == 0
    assert len(await blocks_of(world.store)) == 1
    assert withdrawn == ([] if seen else [1])


@pytest.mark.parametrize("left", [pytest.param(False, id="a new block"), pytest.param(True, id="one left unready")])
async def test_however_a_claim_and_a_migration_interleave_nothing_is_given_behind_the_copy(
    tmp_path: Path, left: bool
) -> None:
    """Every order of the calls of both; what matters is that nobody has an address in a block that isn't frozen."""
    given = refused = 0
    for number, order in enumerate(itertools.product((0, 1), repeat=9)):
        store = MemoryStore()
        await store.create(pool("p", "10.65.0.0/30", 30))
        node = Node("node-1", store, tmp_path / str(number), Clock())
        await node.allocator.load()
        if left:
            block = new_block(ip_network("10.65.0.0/30"), "p", "node-1", "machine-node-1", Clock().now)
            await store.create(block.record)
        gate = Gate()
        outcomes = await interleaved(order, (node.gate, add(node, "a")), (gate, migrate(GatedStore(store, gate))))
        assert outcomes[1] is None
        assert isinstance(outcomes[0], Frozen | Migrating | tuple), outcomes[0]
        given += isinstance(outcomes[0], tuple)
        refused += not isinstance(outcomes[0], tuple)
        copied = await blocks_of(store)
        assert all(block.record.spec.frozen for block in copied if not block.empty), order
        if isinstance(outcomes[0], tuple):
            assert (await owners(store)) == {outcomes[0][0].address: "a"}
    assert given
    assert refused


async def interleaved(order: Sequence[int], *both: tuple[Gate, Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run each coroutine, one store call at a time in this order; what is left over goes on in turns."""
    tasks = []
    for gate, work in both:
        gate.open = False
        tasks.append(asyncio.ensure_future(quietly(work)))
    for turn in itertools.chain(order, itertools.cycle(range(len(both)))):
        await settled()
        if all(task.done() for task in tasks):
            break
        for pending in both[turn][0].waiting[:1]:
            both[turn][0].waiting.remove(pending)
            pending.fate.set_result(Fate.OK)
    return [task.result() for task in tasks]


async def settled() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


async def quietly(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
    try:
        return await work
    except IpamError as error:
        return error
