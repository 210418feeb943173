"""What an allocator takes back, gives back and finds changed by another process, on a store that answers."""

import asyncio
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from datastore.errors import Unavailable
from datastore.resources.ipblock import IPBlock
from ipam.allocator import IDLE_S
from ipam.block import Held, Owner, new_block
from ipam.errors import NoAddress
from tests.ipam.allocating import BOTH, V4, World, nothing_to_withdraw, waiting, with_an_idle_block
from tests.ipam.world import Fate, blocks_of, owners


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestRelease:
    async def test_a_released_address_rests_and_then_comes_back(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/32", 32))
        node = await world.node()
        (held,) = await world.add(node, "a")
        await node.allocator.release([held])
        with pytest.raises(NoAddress):
            await world.add(node, "b")
        world.clock.now += 30
        assert (await world.add(node, "b"))[0].address == held.address

    async def test_only_an_address_that_was_never_anybodys_is_fresh(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/32", 32))
        node = await world.node()
        (first,) = await world.add(node, "a")
        (adopted,) = await world.add(node, "a")
        await node.allocator.release([adopted])
        world.clock.now += 30
        (reused,) = await world.add(node, "b")
        assert [one.fresh for one in (first, adopted, reused)] == [True, False, False]

    async def test_a_late_release_of_an_address_that_has_a_new_owner_touches_nothing(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/32", 32))
        node = await world.node()
        (old,) = await world.add(node, "a")
        await node.allocator.release([old])
        world.clock.now += 30
        await world.add(node, "b")
        await node.allocator.release([old])
        assert await owners(world.store) == {old.address: "b"}

    async def test_a_handle_is_released_by_a_fresh_list(self, world: World) -> None:
        await world.pools(("p4", "10.65.0.0/16", None), ("p6", "fd65::/48", None))
        node, standalone = await world.node(), await world.node()
        await world.add(standalone, "a", BOTH)
        assert len(await node.allocator.release_handle("a")) == 2
        assert await owners(world.store) == {}
        assert await node.allocator.release_handle("a") == ()

    async def test_releasing_what_is_gone_is_fine(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        (held,) = await world.add(node, "a")
        for _ in range(2):
            await node.allocator.release([held])
        await node.allocator.release([Held("10-99-0-0-26", 1, "00000000000000aa", ip_address("10.99.0.1"))])

    async def test_an_uncertain_release_wins_a_write_even_if_the_id_is_not_there(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        (held,) = await world.add(node, "a")
        ghost = Held(held.block, 7, "00000000000000aa", held.address)
        (before,) = await blocks_of(world.store)
        await node.allocator.release([ghost])
        assert (await blocks_of(world.store))[0].record.revision == before.record.revision
        await node.allocator.release([ghost], certain=False)
        assert (await blocks_of(world.store))[0].record.revision != before.record.revision


class TestGiveBack:
    async def test_an_empty_block_is_given_back_after_the_idle_time_and_not_before(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        (held,) = await world.add(node, "a")
        world.clock.now += 10 * IDLE_S
        withdrawn: list[frozenset[object]] = []

        async def withdraw() -> None:
            withdrawn.append(frozenset(node.allocator.networks()))

        assert await node.allocator.give_back(withdraw) == 0
        await node.allocator.release([held])
        world.clock.now += IDLE_S - 1
        assert await node.allocator.give_back(withdraw) == 0
        assert withdrawn == []
        world.clock.now += 1
        assert await node.allocator.give_back(withdraw) == 1
        assert withdrawn == [frozenset()]
        assert await blocks_of(world.store) == []
        assert node.allocator.networks() == frozenset()

    async def test_a_block_that_a_borrower_took_from_meanwhile_is_kept(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        first, second = await world.node("node-1"), await world.node("node-2")
        (held,) = await world.add(first, "a")
        await first.allocator.release([held])
        world.clock.now += IDLE_S

        async def withdraw() -> None:
            await world.add(second, "b")

        assert await first.allocator.give_back(withdraw) == 0
        assert set((await owners(world.store)).values()) == {"b"}
        assert first.allocator.networks() == {ip_network("10.65.0.0/29")}
        await world.add(first, "c")

    async def test_a_block_that_is_kept_after_all_is_told_again_for_it_was_withdrawn(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        first, second = await world.node("node-1"), await world.node("node-2")
        (held,) = await world.add(first, "a")
        await first.allocator.release([held])
        world.clock.now += IDLE_S
        told: list[frozenset[object]] = []
        first.allocator.on_change = lambda: told.append(frozenset(first.allocator.networks()))

        async def withdraw() -> None:
            await world.add(second, "b")

        assert await first.allocator.give_back(withdraw) == 0
        assert told[-1:] == [{ip_network("10.65.0.0/29")}]

    async def test_what_a_dead_claim_left_of_a_pool_that_serves_no_more_goes_too(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        left = new_block(ip_network("10.65.0.0/29"), "gone", "node-1", "machine-node-1", world.clock.now)
        await world.store.create(left.record)
        node = await world.node()
        with pytest.raises(NoAddress):
            await world.add(node, "a")

        async def withdraw() -> None:
            pass

        world.clock.now += IDLE_S - 1
        assert await node.allocator.give_back(withdraw) == 0
        world.clock.now += 1
        assert await node.allocator.give_back(withdraw) == 1
        await world.add(node, "a")

    async def test_so_does_one_whose_claim_broke_off(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        node = await world.node()
        node.gate.open = False
        adding = asyncio.ensure_future(world.add(node, "a"))
        while not adding.done():
            for pending in list(node.gate.waiting):
                node.gate.waiting.remove(pending)
                created = bool(await blocks_of(world.store))
                pending.fate.set_result(Fate.REFUSED if created else Fate.OK)
            await asyncio.sleep(0)
        assert isinstance(adding.exception(), Unavailable)
        node.gate.open = True
        world.clock.now += IDLE_S

        async def withdraw() -> None:
            pass

        assert await node.allocator.give_back(withdraw) == 1
        assert await blocks_of(world.store) == []

    async def test_nothing_is_given_from_a_block_on_its_way_back(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/28", 29))
        node = await world.node()
        (held,) = await world.add(node, "a")
        await node.allocator.release([held])
        world.clock.now += IDLE_S
        given: list[Held] = []

        async def withdraw() -> None:
            given.extend(await world.add(node, "b"))

        await node.allocator.give_back(withdraw)
        assert given[0].block != held.block
        assert set((await owners(world.store)).values()) == {"b"}

    async def test_a_delete_whose_answer_is_lost_is_done_again_so_that_it_cannot_land_later(self, world: World) -> None:
        node = await with_an_idle_block(world)
        node.gate.open = False
        giving = asyncio.ensure_future(node.allocator.give_back(nothing_to_withdraw))
        for fate in (Fate.LATE, Fate.REFUSED, Fate.OK):
            pending = await waiting(node)
            assert pending.name == "delete"
            pending.fate.set_result(fate)
        assert await giving == 1
        assert await blocks_of(world.store) == []

    async def test_a_block_that_may_be_gone_any_time_is_neither_used_nor_told(self, world: World) -> None:
        node = await with_an_idle_block(world)
        (idle,) = await blocks_of(world.store)
        node.gate.open = False
        giving = asyncio.ensure_future(node.allocator.give_back(nothing_to_withdraw))
        while not giving.done():
            for pending in node.gate.waiting:
                pending.fate.set_result(Fate.LOST)
            node.gate.waiting.clear()
            await asyncio.sleep(0)
        node.gate.open = True
        assert (await giving, node.allocator.networks()) == (0, frozenset())
        (held,) = await world.add(node, "b")
        assert held.block != idle.name
        assert await node.allocator.give_back(nothing_to_withdraw) == 1
        assert [block.name for block in await blocks_of(world.store)] == [held.block]

    async def test_a_block_that_nobody_made_ready_is_given_back_too(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        node = await world.node("node-1")
        left = new_block(ip_network("10.65.0.0/29"), "p", "node-1", "machine-node-1", world.clock.now)
        await world.store.create(left.record)
        await node.allocator.load()

        assert await node.allocator.give_back(nothing_to_withdraw) == 0
        world.clock.now += IDLE_S
        assert await node.allocator.give_back(nothing_to_withdraw) == 1
        assert await blocks_of(world.store) == []


class TestAnotherProcess:
    """`python -m cni` assigns and releases beside the agent, which doesn't watch its own blocks."""

    async def test_what_it_assigned_is_released_although_the_mirror_lacks_it(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        agent, beside = await world.node(), await world.node()
        await world.add(agent, "a")
        await beside.allocator.load()
        (held,) = await world.add(beside, "b")
        await agent.allocator.release([held])
        assert set((await owners(world.store)).values()) == {"a"}

    async def test_what_it_assigned_is_adopted_by_who_asks_again(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        agent, beside = await world.node(), await world.node()
        await world.add(agent, "a")
        await beside.allocator.load()
        (held,) = await world.add(beside, "b")
        async with agent.handles.hold("b") as hold:
            (adopted,) = await agent.allocator.assign(Owner("b", "node-1"), V4, hold, again=True)
            hold.settle()
        assert adopted.address == held.address
        assert len(await owners(world.store)) == 2

    async def test_releasing_what_has_gone_reads_the_block_once_and_writes_nothing(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        held = await world.add(node, "a")
        await node.allocator.release(held)
        (before,) = (await world.store.list(IPBlock)).items
        await node.allocator.release(held)
        assert (await world.store.list(IPBlock)).items == (before,)
