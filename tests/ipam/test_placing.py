"""Where an address comes from, what it costs, and what is said where there is none."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path

import msgspec
import pytest

from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from ipam.allocator import Settings, Wanted
from ipam.block import Among, Block, Owner, Range, new_block
from ipam.claim import FULL_S
from ipam.errors import AddressTaken, NoAddress, NoPool
from tests.ipam.placing import BOTH, LARGE, POOL, V4, World, add, calls_of, looking_first_in, only
from tests.ipam.world import Fate, blocks_of, owners, pool, reservation


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestCosts:
    """With ten blocks in the store, and with a thousand: the same calls, and the same looks at blocks."""

    @pytest.fixture(params=[10, 1000])
    def others(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    async def test_in_an_own_block_one_write_and_no_read(self, world: World, others: int) -> None:
        await world.start(POOL)
        await world.fill(LARGE, others, "node-9", owned=1)
        node = await world.node()
        await add(node, "a")
        assert await calls_of(node, add(node, "b")) == ["update"]
        assert await calls_of(node, add(node, "b")) == ["update"], "an adoption, too"

    async def test_the_first_in_a_new_block_two_writes_and_four_reads(self, world: World, others: int) -> None:
        await world.start(POOL)
        await world.fill(LARGE, others, "node-9", owned=1)
        node = await world.node(looking_first_in(IPv4Network("10.65.240.0/20")))
        assert await calls_of(node, add(node, "a")) == ["list", "create", "list", "get", "get", "update"]

    async def test_both_families_together_as_many_of_each(self, world: World, others: int) -> None:
        await world.start(POOL, pool("p6", "fd65::/48"))
        await world.fill(LARGE, others, "node-9", owned=1)
        node = await world.node()
        await add(node, "a", BOTH)
        assert await calls_of(node, add(node, "b", BOTH)) == ["update", "update"]

    async def test_a_borrowed_address_one_write_and_once_known_no_read(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/20"))
        await world.fill(IPv4Network("10.65.0.0/20"), 64, "node-9", owned=3)
        node = await world.node()
        assert await calls_of(node, add(node, "a")) == ["list", "list", "update"]
        assert await calls_of(node, add(node, "b")) == ["update"]
        assert len(node.allocator.borrowed()) == 2

    async def test_an_address_asked_for_in_anothers_block_one_write_and_two_reads(self, world: World) -> None:
        await world.start(POOL)
        await world.fill(IPv4Network("10.65.0.0/20"), 2, "node-9", owned=3)
        node = await world.node()
        assert await calls_of(node, add(node, "a", only("10.65.0.9"))) == ["list", "list", "update"]

    async def test_a_release_one_write(self, world: World, others: int) -> None:
        await world.start(POOL)
        await world.fill(LARGE, others, "node-9", owned=1)
        node = await world.node()
        held = await add(node, "a")
        assert await calls_of(node, node.allocator.release(held)) == ["update"]

    @pytest.mark.parametrize(("strict", "calls"), [(False, ["list"] * 4), (True, ["list"] * 2)])
    async def test_an_exhausted_pool_is_not_read_again_at_each_try(
        self, world: World, strict: bool, calls: list[str]
    ) -> None:
        await world.start(pool("p", "10.65.0.0/19"))
        await world.fill(IPv4Network("10.65.0.0/19"), 128, "node-9")
        node = await world.node(strict=strict)
        assert await calls_of(node, add(node, "a"), refused=NoAddress) == calls, "to claim, and to borrow"
        assert await calls_of(node, add(node, "a"), refused=NoAddress) == []
        world.clock.now += FULL_S
        assert await calls_of(node, add(node, "a"), refused=NoAddress) == calls
        world.clock.now -= 3600
        assert await calls_of(node, add(node, "a"), refused=NoAddress) == calls, "a clock that was put back"

    async def test_looks_at_own_blocks_do_not_grow_with_their_number(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked: list[str] = []
        has_room = Block.has_room

        def counted(block: Block, *arguments: object, **named: object) -> bool:
            looked.append(block.name)
            return has_room(block, *arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Block, "has_room", counted)
        looks = {}
        for number, own in enumerate((4, 400)):
            here = World(world.folder / str(number))
            await here.start(POOL)
            await here.fill(LARGE, own, "node-1")
            node = await here.node()
            await add(node, "first")  # finds every block full, once
            looked.clear()
            for handle in "abcdef":
                await add(node, handle)
            looks[own] = len(looked)
        assert looks[4] == looks[400] == 6

    async def test_a_full_block_is_looked_at_again_when_it_has_changed_or_cooled(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/30", 30))
        node = await world.node()
        held = [await add(node, f"h{number}") for number in range(4)]
        with pytest.raises(NoAddress):
            await add(node, "more")
        await node.allocator.release(held[2])
        with pytest.raises(NoAddress):
            await add(node, "more")
        world.clock.now += 29.9
        with pytest.raises(NoAddress):
            await add(node, "more")
        world.clock.now += 0.1
        assert (await add(node, "more"))[0].address == held[2][0].address

    async def test_a_block_is_found_again_when_those_who_filled_it_came_to_nothing(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/30", 30))
        node = await world.node()
        (first,) = await add(node, "first")
        node.gate.open = False
        tasks = [asyncio.ensure_future(add(node, f"h{number}")) for number in range(4)]
        for fate in (Fate.REFUSED,) * 40:
            for _ in range(60):
                await asyncio.sleep(0)
            if all(task.done() for task in tasks):
                break
            node.gate.waiting.pop(0).fate.set_result(fate)
        await asyncio.gather(*tasks, return_exceptions=True)
        node.gate.open = True
        (held,) = await add(node, "again")
        assert held.block == first.block

    async def test_settings_that_change_are_seen_by_blocks_that_were_full(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/30", 30))
        node = await world.node()
        node.allocator.set_reservations([reservation("10.65.0.2/31")])
        held = [await add(node, f"h{number}") for number in range(2)]
        await node.allocator.release(held[0])
        with pytest.raises(NoAddress):
            await add(node, "more")
        node.allocator.set_reservations([])
        await add(node, "more")
        await add(node, "and-more")
        with pytest.raises(NoAddress):
            await add(node, "too-many")
        node.allocator.settings = Settings(cooldown_s=0)
        await add(node, "not-too-many")


class TestReserved:
    async def test_who_asks_for_nothing_special_is_given_no_reserved_address_and_no_block_of_them(
        self, world: World
    ) -> None:
        await world.start(pool("p", "10.65.0.0/24"))
        node = await world.node()
        node.allocator.set_reservations([reservation("10.65.0.0/25", "10.65.0.130"), reservation("10.65.0.192/26")])
        given = {(await add(node, f"h{number}"))[0].address for number in range(63)}
        assert given == set(ip_network("10.65.0.128/26")) - {IPv4Address("10.65.0.130")}
        with pytest.raises(NoAddress):
            await add(node, "more")
        assert [str(block.network) for block in await blocks_of(world.store)] == ["10.65.0.128/26"]

    async def test_who_asks_for_one_gets_it(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/24"))
        node = await world.node()
        node.allocator.set_reservations([reservation("10.65.0.0/24")])
        (held,) = await add(node, "a", only("10.65.0.77"))
        assert str(held.address) == "10.65.0.77"

    async def test_none_is_lent(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/26"))
        first, second = await world.node("node-1"), await world.node("node-2")
        await add(first, "a")
        second.allocator.set_reservations([reservation("10.65.0.0/26")])
        with pytest.raises(NoAddress):
            await add(second, "b")

    async def test_a_pool_that_is_wholly_reserved_is_not_even_listed(self, world: World) -> None:
        await world.start(POOL)
        node = await world.node()
        node.allocator.set_reservations([reservation("10.65.0.0/16")])
        node.gate.open = False
        with pytest.raises(NoAddress):
            await asyncio.wait_for(add(node, "a"), 10)


class TestLimit:
    async def test_a_node_with_all_the_blocks_it_may_have_borrows(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/28", 30))
        first, second = await world.node("node-1", most=1), await world.node("node-2", most=1)
        await add(second, "b")
        given = [await add(first, f"h{number}") for number in range(5)]
        assert len(first.allocator.networks()) == 1
        assert first.allocator.borrowed() == {given[4][0].address}

    async def test_or_has_none_left_and_says_why(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/28", 30))
        node = await world.node(most=2, strict=True)
        for number in range(8):
            await add(node, f"h{number}")
        with pytest.raises(NoAddress, match=r"has its 2 IPv4 blocks \(maxBlocksPerNode\)"):
            await add(node, "more")
        with pytest.raises(NoAddress, match="maxBlocksPerNode"):
            await node.allocator.check_room(V4)

    async def test_each_family_has_its_own(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/28", 30), pool("p6", "fd65::/120"))
        node = await world.node(most=1)
        await add(node, "a", BOTH)
        assert len(node.allocator.networks()) == 2

    async def test_an_address_asked_for_needs_a_block_too(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/24"))
        node = await world.node(most=1)
        await add(node, "a", only("10.65.0.1"))
        with pytest.raises(AddressTaken, match=r"10\.65\.0\.65 lies in no block.*maxBlocksPerNode"):
            await add(node, "b", only("10.65.0.65"))


class TestAskedFor:
    async def test_addresses_of_both_families_in_one_go(self, world: World) -> None:
        await world.start(POOL, pool("p6", "fd65::/48"))
        held = await add(await world.node(), "a", only("10.65.3.4", "fd65::99"))
        assert [str(one.address) for one in held] == ["10.65.3.4", "fd65::99"]

    async def test_one_that_is_taken_names_its_owner_and_gives_the_other_family_back(self, world: World) -> None:
        await world.start(POOL, pool("p6", "fd65::/48"))
        node, other = await world.node(), await world.node("node-2")
        await add(other, "a", only("fd65::99"))
        with pytest.raises(AddressTaken, match="fd65::99 is taken by pod shop/pod-a on node node-2") as refused:
            await add(node, "b", only("10.65.3.4", "fd65::99"))
        assert refused.value.holder == "a"
        assert list((await owners(world.store)).values()) == ["a"]

    async def test_one_that_was_taken_by_hand_names_the_handle(self, world: World) -> None:
        await world.start(POOL)
        node = await world.node()
        async with node.handles.hold("manual/vip") as hold:
            await node.allocator.assign(Owner("manual/vip", "node-1"), only("10.65.0.1"), hold)
        with pytest.raises(AddressTaken, match="taken by handle manual/vip on node node-1"):
            await add(node, "b", only("10.65.0.1"))

    async def test_strict_affinity_says_whose_block_it_lies_in(self, world: World) -> None:
        await world.start(POOL)
        await add(await world.node("node-2"), "a", only("10.65.0.1"))
        with pytest.raises(AddressTaken, match=r"10\.65\.0\.0/26 of node node-2, and strict affinity"):
            await add(await world.node(strict=True), "b", only("10.65.0.2"))

    async def test_of_two_that_ask_for_one_address_at_once_one_has_it_and_the_other_hears_who(
        self, world: World
    ) -> None:
        await world.start(POOL)
        nodes = [await world.node(f"node-{number}") for number in (1, 2)]
        asking = [add(node, node.name, only("10.65.0.1")) for node in nodes]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        (refused,) = [one for one in outcomes if isinstance(one, BaseException)]
        assert isinstance(refused, AddressTaken)
        assert list((await owners(world.store)).values()) == [refused.holder]

    async def test_of_two_that_ask_for_two_addresses_of_one_new_block_both_are_served(self, world: World) -> None:
        await world.start(POOL)
        nodes = [await world.node(f"node-{number}") for number in (1, 2)]
        asking = [add(node, node.name, only(f"10.65.0.{number}")) for number, node in enumerate(nodes)]
        assert [str(held.address) for (held,) in await asyncio.gather(*asking)] == ["10.65.0.0", "10.65.0.1"]

    async def test_one_in_a_block_that_nobody_finishes_making_is_waited_for_and_given_up(self, world: World) -> None:
        await world.start(POOL)
        left = new_block(ip_network("10.65.0.0/26"), "p", "node-9", "m", world.clock.now)
        await world.store.create(left.record)
        with pytest.raises(AddressTaken, match="of node node-9, which is still being made; try again"):
            await add(await world.node(), "a", only("10.65.0.1"))

    async def test_one_where_a_block_of_another_size_lies_says_so(self, world: World) -> None:
        await world.start(POOL)
        other = new_block(ip_network("10.65.0.64/28"), "older", "node-9", "m", world.clock.now).made_ready()
        await world.store.create(other.record)
        node = await world.node()
        with pytest.raises(AddressTaken, match="blocks of other sizes"):
            await add(node, "a", only("10.65.0.127"))
        with pytest.raises(AddressTaken, match="made for pool older"):
            await add(node, "a", only("10.65.0.65"))

    async def test_one_that_another_process_of_the_node_has_just_freed_is_found(self, world: World) -> None:
        await world.start(POOL)
        agent, beside = await world.node(strict=True), await world.node(strict=True)
        held = await add(agent, "a", only("10.65.0.1"))
        await beside.allocator.release(held)
        (again,) = await add(agent, "b", only("10.65.0.1"))
        assert str(again.address) == "10.65.0.1"

    async def test_what_a_dead_call_left_is_given_back_where_another_address_is_asked_for(self, world: World) -> None:
        await world.start(POOL)
        node = await world.node()
        async with node.handles.hold("a") as hold:
            await node.allocator.assign(Owner("a", "node-1"), only("10.65.0.1"), hold)
        (held,) = await add(node, "a", only("10.65.0.2"))
        assert await owners(world.store) == {held.address: "a"}
        async with node.handles.hold("a") as hold:
            (kept,) = await node.allocator.assign(Owner("a", "node-1"), only("10.65.0.3"), hold, again=True)
        assert kept.address == held.address, "but of an attachment that is there nothing is taken"


class TestRanges:
    async def test_a_lender_is_asked_for_a_range_too(self, world: World) -> None:
        await world.start(pool("p", "10.65.0.0/26"))
        await add(await world.node("node-2"), "a")
        network = ip_network("10.65.0.0/26")
        wanted = Wanted((4,), among={4: Among((Range(network, network[40], network[41]),))})
        node = await world.node()
        given = {str((await add(node, f"h{number}", wanted))[0].address) for number in range(2)}
        assert given == {"10.65.0.40", "10.65.0.41"}
        with pytest.raises(NoAddress):
            await add(node, "more", wanted)


class TestOverlappingPools:
    async def test_nodes_that_see_one_of_two_each_never_double_an_address(self, world: World) -> None:
        both = [pool("large", "10.65.0.0/26", 28), pool("small", "10.65.0.0/27", 30)]
        await world.start(*both)
        nodes = [await world.node(f"node-{number}") for number in range(2)]
        for node, seen in zip(nodes, both, strict=True):
            node.allocator.set_pools([seen])
        asking = [add(node, f"{node.name}-{number}") for number in range(20) for node in nodes]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        given = [one[0].address for one in outcomes if not isinstance(one, BaseException)]
        assert all(isinstance(one, tuple | NoAddress) for one in outcomes)
        assert len(given) == len(set(given)) > 20
        networks = [block.network for block in await blocks_of(world.store)]
        assert not any(one.overlaps(two) for place, one in enumerate(networks) for two in networks[:place])

    async def test_the_later_one_gives_nothing_more(self, world: World) -> None:
        await world.start(pool("old", "10.65.0.0/26", 30), pool("young", "10.65.0.0/27", 30))
        node = await world.node()
        assert "overlaps IPPool old" in node.allocator.unused_pools["young"]
        assert (await add(node, "a"))[0].block in {block.name for block in await blocks_of(world.store)}
        assert {block.record.spec.pool for block in await blocks_of(world.store)} == {"old"}
        with pytest.raises(NoPool, match="young overlaps IPPool old"):
            await add(node, "b", Wanted((4,), {4: ("young",)}))


class TestPoolsThatGo:
    @pytest.mark.parametrize("order", range(64))
    async def test_however_a_claim_and_a_deletion_interleave_no_block_is_left_without_its_pool(
        self, world: World, order: int
    ) -> None:
        await world.start(POOL)
        node = await world.node()
        node.gate.open = False
        adding = asyncio.ensure_future(add(node, "a"))
        deleting = [disable, count_blocks, delete_if_empty]
        found: list[int] = []
        for bit in range(40):
            for _ in range(20):
                await asyncio.sleep(0)
            if adding.done() and not deleting:
                break
            if (deleting and (order >> bit) & 1) or adding.done():
                await deleting.pop(0)(world.store, found)
            elif node.gate.waiting:
                node.gate.waiting.pop(0).fate.set_result(Fate.OK)
        await asyncio.gather(adding, return_exceptions=True)
        pools = (await world.store.list(IPPool)).items
        ready = [block for block in await blocks_of(world.store) if block.record.spec.ready]
        assert pools or not ready

    async def test_a_pool_that_is_disabled_serves_what_it_gave_and_nobody_new(self, world: World) -> None:
        await world.start(POOL)
        node = await world.node()
        (held,) = await add(node, "a")
        await disable(world.store, [])
        node.allocator.set_pools((await world.store.list(IPPool)).items)
        with pytest.raises(NoPool):
            await add(node, "b")
        (again,) = await add(node, "a")
        assert again.address == held.address

    async def test_a_pool_that_has_gone_meanwhile_leaves_its_place_to_the_next(self, world: World) -> None:
        await world.start(POOL, pool("q", "10.66.0.0/16"))
        node = await world.node()
        await disable(world.store, [])
        (held,) = await add(node, "a")  # the watch hasn't told yet
        assert held.address in ip_network("10.66.0.0/16")
        assert len(await blocks_of(world.store)) == 1


async def disable(store: MemoryStore, _: Sequence[int]) -> None:
    found = await store.get(IPPool, "p")
    await store.update(msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, disabled=True)))


async def count_blocks(store: MemoryStore, found: list[int]) -> None:
    found.append(len((await store.list(IPBlock)).items))


async def delete_if_empty(store: MemoryStore, found: Sequence[int]) -> None:
    if found == [0]:
        await store.delete(await store.get(IPPool, "p"))


async def test_a_cell_that_was_full_is_looked_at_again_after_a_while(tmp_path: Path) -> None:
    world = await World(tmp_path).start(pool("p", "10.65.0.0/30", 30))
    other = new_block(ip_network("10.65.0.0/30"), "p", "node-9", "m", world.clock.now).made_ready()
    stored = await world.store.create(other.record)
    node = await world.node(strict=True)
    with pytest.raises(NoAddress):
        await add(node, "a")
    await world.store.delete(stored)
    world.clock.now += FULL_S
    await add(node, "a")


@pytest.mark.parametrize("wanted", [pytest.param(V4, id="any"), pytest.param(only("10.65.0.9"), id="a certain one")])
async def test_status_says_whether_there_is_room_without_reading_every_block(tmp_path: Path, wanted: Wanted) -> None:
    world = await World(tmp_path).start(POOL)
    await world.fill(IPv4Network("10.65.16.0/20"), 64, "node-9")
    node = await world.node()
    calls = await calls_of(node, node.allocator.check_room(wanted))
    assert calls == ["list"]
    await add(node, "a")
    assert await calls_of(node, node.allocator.check_room(V4)) == []
