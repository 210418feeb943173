"""Blocks of a name that another machine had, made the new machine's; and what lives, made its own again."""

from pathlib import Path

import msgspec
import pytest

from datastore.errors import Unknown
from datastore.memory import MemoryStore
from datastore.resources.node import Node as NodeResource
from datastore.resources.node import NodeSpec
from datastore.resources.value import Metadata
from ipam.allocator import Wanted
from ipam.block import Among, Held, Owner
from ipam.identity import NameTaken, claim
from ipam.regain import Regained, regain
from ipam.takeover import take_over
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.ipam.world import Clock, Node, blocks_of, no_pause, owners, pool

HANDLE = "net:c1:eth0"


def named(machine: str, name: str = "n3") -> NodeResource:
    return NodeResource(metadata=Metadata(name=name), spec=NodeSpec(machine=machine))


class World:
    """One name, and the machines that have it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self._folder = folder

    async def machine(self, machine: str, name: str = "n3") -> Node:
        """A machine that has just been given the name."""
        for found in (await self.store.list(NodeResource)).items:
            if found.name == name:
                await self.store.delete(found)
        await claim(self.store, named(machine, name))
        node = Node(name, self.store, self._folder / machine, self.clock, machine)
        await node.allocator.load()
        return node

    async def add(self, node: Node, handle: str = HANDLE, wanted: Wanted | None = None) -> Held:
        async with node.handles.hold(handle) as hold:
            (held,) = await node.allocator.assign(Owner(handle, node.name), wanted or Wanted((4,)), hold)
            hold.settle()
        return held

    async def regain(self, node: Node, held: Held, handle: str = HANDLE) -> Regained:
        async with node.handles.hold(handle) as hold:
            found = await regain(node.allocator, Owner(handle, node.name, "web", "shop"), [held], hold)
            hold.settle()
        return found


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.store.create(pool("p", "10.65.0.0/16"))
    return made


# The name


async def test_a_name_is_created_once_and_found_by_its_own_machine(world: World) -> None:
    assert (await claim(world.store, named("m1")))[1] is True
    assert (await claim(world.store, named("m1")))[1] is False
    with pytest.raises(NameTaken, match=r"belongs to machine 'm1'.*tortiectl delete nodes\.tortie\.dev n3 --force"):
        await claim(world.store, named("m2"))


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.LOST_APPLIED])
async def test_a_creation_whose_answer_was_lost_counts_as_new(world: World, fate: Fate) -> None:
    fates = [fate]

    async def once(_: Call) -> Fate:
        return fates.pop() if fates else Fate.OK

    assert (await claim(FaultyStore(world.store, once), named("m1"), no_pause))[1] is True


async def test_a_name_that_never_settles_is_not_ours(world: World) -> None:
    async def never(_: Call) -> Fate:
        return Fate.LOST

    with pytest.raises(Unknown):
        await claim(FaultyStore(world.store, never), named("m1"), no_pause)


# Blocks


async def test_the_new_machine_of_a_name_takes_its_blocks_and_the_old_one_can_assign_nothing_there(
    world: World,
) -> None:
    old = await world.machine("m1")
    held = await world.add(old)
    new = await world.machine("m2")
    (block,) = await blocks_of(world.store)
    assert await take_over(world.store, "n3", "m2") == (f"took over block {block.network} from machine m1",)
    await new.allocator.load()
    assert new.allocator.networks() == {block.network}
    assert (await world.add(new, "net:c2:eth0")).block == held.block
    assert (await world.add(old, "net:c3:eth0")).block != held.block
    assert len(set(await owners(world.store))) == 3


async def test_blocks_of_a_name_that_is_not_ours_stay_as_they_are(world: World) -> None:
    await world.add(await world.machine("m1"))
    assert await take_over(world.store, "n3", "m2") == ()
    await world.store.delete(await world.store.get(NodeResource, "n3"))
    assert await take_over(world.store, "n3", "m2") == ()
    assert [one.record.spec.machine for one in await blocks_of(world.store)] == ["m1"]


async def test_blocks_of_ones_own_and_those_one_borrows_from_stay_as_they_are(world: World) -> None:
    node, lender = await world.machine("m1"), await world.machine("m9", "n9")
    lent = await world.add(lender)
    await world.add(node, "net:c2:eth0", Wanted((4,), among={4: Among.only(lent.address + 1)}))
    await world.add(node, "net:c3:eth0")
    before = [one.record for one in await blocks_of(world.store)]
    assert await take_over(world.store, "n3", "m1") == ()
    assert [one.record for one in await blocks_of(world.store)] == before


async def test_a_frozen_block_waits_and_an_unready_one_goes(world: World) -> None:
    node = await world.machine("m1")
    held = await world.add(node)
    (block,) = await blocks_of(world.store)
    spec = msgspec.structs.replace(block.record.spec, frozen="moving")
    frozen = await world.store.update(msgspec.structs.replace(block.record, spec=spec))
    await world.machine("m2")
    assert await take_over(world.store, "n3", "m2") == ()
    spec = msgspec.structs.replace(spec, frozen="", ready=False, allocations={}, released=((held.ordinal, 1.0),))
    await world.store.update(msgspec.structs.replace(frozen, spec=spec))
    assert len(await take_over(world.store, "n3", "m2")) == 1
    assert await blocks_of(world.store) == []


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.LOST_APPLIED, Fate.LOST_LATER])
async def test_a_lost_answer_is_settled_by_looking_again(world: World, fate: Fate) -> None:
    await world.add(await world.machine("m1"))
    await world.machine("m2")
    fates = [fate]

    async def once(call: Call) -> Fate:
        return fates.pop() if fates and call.verb == "update" else Fate.OK

    seen = FaultyStore(world.store, once)
    await take_over(seen, "n3", "m2")
    while seen.late:
        await seen.land()
    assert [one.record.spec.machine for one in await blocks_of(world.store)] == ["m2"]


# What lives


async def test_a_regained_address_has_a_new_id_so_that_no_release_under_way_can_hit_it(world: World) -> None:
    node = await world.machine("m1")
    held = await world.add(node)
    found = await world.regain(node, held)
    assert ([one.address for one in found.held], found.lost) == ([held.address], ())
    await node.allocator.release([held])
    assert list(await owners(world.store)) == [held.address]


async def test_an_address_that_was_freed_meanwhile_is_assigned_again(world: World) -> None:
    node = await world.machine("m1")
    held = await world.add(node)
    await node.allocator.release([held])
    for block in await blocks_of(world.store):
        await world.store.delete(block.record)
    again = await world.machine("m1")
    found = await world.regain(again, held)
    assert ([one.address for one in found.held], found.lost) == ([held.address], ())
    assert await owners(world.store) == {held.address: HANDLE}


async def test_an_address_that_is_anothers_by_now_is_told_as_lost(world: World) -> None:
    node = await world.machine("m1")
    held = await world.add(node)
    await node.allocator.release([held])
    other = await world.machine("m9", "n9")
    await world.add(other, "net:c9:eth0", Wanted((4,), among={4: Among.only(held.address)}))
    found = await world.regain(node, held)
    assert (found.held, found.lost) == ((), (held,))
    assert await owners(world.store) == {held.address: "net:c9:eth0"}


async def test_an_allocation_that_names_another_node_is_put_right(world: World) -> None:
    held = await world.add(await world.machine("m1", "before"))
    node = await world.machine("m1")
    found = await world.regain(node, held)
    assert [one.address for one in found.held] == [held.address]
    assert node.allocator.borrowed() == {held.address}
    (block,) = await blocks_of(world.store)
    assert [one.node for one in block.record.spec.allocations.values()] == ["n3"]
