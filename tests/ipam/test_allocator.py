"""What an allocator gives, on a store that answers."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

import pytest

from datastore.errors import Conflict
from datastore.resources.ipblock import IPBlock
from datastore.store import Where
from ipam.allocator import Settings, Wanted
from ipam.block import Among, Owner, Range, new_block
from ipam.errors import AddressTaken, NoAddress, NoPool, OutsidePools
from tests.ipam.allocating import BOTH, V4, V6, World, only
from tests.ipam.placing import calls_of
from tests.ipam.world import Fate, blocks_of, owners, pool


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestAmong:
    async def test_an_address_asked_for_is_given_from_a_block_made_for_it(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None), ("q", "10.66.0.0/16", None))
        node = await world.node()
        (held,) = await world.add(node, "a", only("10.66.7.200"))
        assert (str(held.address), held.block) == ("10.66.7.200", "10-66-7-192-26")
        (other,) = await world.add(node, "b", only("10.66.7.199"))
        assert (str(other.address), len(await blocks_of(world.store))) == ("10.66.7.199", 1)

    async def test_one_that_is_taken_is_refused_and_one_outside_every_pool_too(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        await world.add(node, "a", only("10.65.0.9"))
        with pytest.raises(AddressTaken, match=r"10\.65\.0\.9 is taken"):
            await world.add(node, "b", only("10.65.0.9"))
        with pytest.raises(OutsidePools, match=r"no enabled pool holds 10\.9\.0\.9"):
            await world.add(node, "b", only("10.9.0.9"))
        assert set((await owners(world.store)).values()) == {"a"}

    async def test_one_in_another_nodes_block_is_borrowed_unless_affinity_is_strict(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        await world.add(await world.node("node-2"), "a", only("10.65.0.9"))
        node = await world.node()
        node.allocator.settings = Settings(strict_affinity=True)
        with pytest.raises(AddressTaken):
            await world.add(node, "b", only("10.65.0.10"))
        node.allocator.settings = Settings()
        (held,) = await world.add(node, "b", only("10.65.0.10"))
        assert held.address in node.allocator.borrowed()

    async def test_a_range_is_used_up_and_not_left(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        network = ip_network("10.65.3.0/29")
        subnet = Range(network, network[1], network[-2], frozenset({network[1]}))
        wanted = Wanted((4,), among={4: Among((subnet,))})
        given = [str((await world.add(node, f"h{number}", wanted))[0].address) for number in range(5)]
        assert sorted(given) == [f"10.65.3.{number}" for number in range(2, 7)]
        with pytest.raises(NoAddress):
            await world.add(node, "more", wanted)
        assert len(await blocks_of(world.store)) == 1


class TestAssign:
    async def test_the_first_address_claims_a_block_that_ends_ready_and_ours(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        (held,) = await world.add(node, "a")
        (block,) = await blocks_of(world.store)
        spec = block.record.spec
        assert (spec.ready, spec.node, spec.machine, spec.pool) == (True, "node-1", "machine-node-1", "p")
        assert held.address in block.network
        assert node.allocator.networks() == {block.network}

    async def test_both_families_come_together(self, world: World) -> None:
        await world.pools(("p4", "10.65.0.0/16", None), ("p6", "fd65::/48", None))
        held = await world.add(await world.node(), "a", BOTH)
        assert [one.address.version for one in held] == [4, 6]

    async def test_a_family_without_a_pool_assigns_nothing(self, world: World) -> None:
        await world.pools(("p4", "10.65.0.0/16", None))
        with pytest.raises(NoPool, match="IPv6"):
            await world.add(await world.node(), "a", BOTH)
        assert await blocks_of(world.store) == []

    async def test_a_family_that_is_exhausted_gives_the_other_back(self, world: World) -> None:
        await world.pools(("p4", "10.65.0.0/16", None), ("p6", "fd65::/128", 128))
        node = await world.node()
        await world.add(node, "a", V6)
        with pytest.raises(NoAddress, match="IPv6"):
            await world.add(node, "b", BOTH)
        assert set((await owners(world.store)).values()) == {"a"}

    async def test_a_handle_gets_its_address_again_under_a_new_id(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        (first,) = await world.add(node, "a")
        (second,) = await world.add(node, "a")
        assert (second.address, second.block) == (first.address, first.block)
        assert second.id != first.id
        await node.allocator.release([first])
        assert await owners(world.store) == {first.address: "a"}

    async def test_a_retry_completes_the_missing_family(self, world: World) -> None:
        await world.pools(("p4", "10.65.0.0/16", None), ("p6", "fd65::/48", None))
        node = await world.node()
        (four,) = await world.add(node, "a", V4)
        held = await world.add(node, "a", BOTH)
        assert held[0].address == four.address
        assert len(await owners(world.store)) == 2

    async def test_what_a_handle_had_stays_when_another_family_fails(self, world: World) -> None:
        await world.pools(("p4", "10.65.0.0/16", None), ("p6", "fd65::/128", 128))
        node = await world.node()
        await world.add(node, "other", V6)
        (four,) = await world.add(node, "a", V4)
        with pytest.raises(NoAddress):
            await world.add(node, "a", BOTH)
        assert (await owners(world.store))[four.address] == "a"

    async def test_a_full_block_is_followed_by_the_next(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/28", 30))
        node = await world.node()
        addresses = {(await world.add(node, f"h{n}"))[0].address for n in range(16)}
        assert addresses == set(ip_network("10.65.0.0/28"))
        with pytest.raises(NoAddress, match="IPv4 address in p"):
            await world.add(node, "one too many")

    async def test_many_at_once_share_blocks_and_no_address(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        given = await asyncio.gather(*(world.add(node, f"h{n}") for n in range(150)))
        assert len({held.address for (held,) in given}) == 150
        assert len(await blocks_of(world.store)) == 3

    async def test_only_the_pools_asked_for_serve(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None), ("q", "10.66.0.0/16", None))
        node = await world.node()
        await world.add(node, "a")
        (held,) = await world.add(node, "b", Wanted((4,), {4: ("10.66.0.0/16",)}))
        assert held.address in ip_network("10.66.0.0/16")

    async def test_a_disabled_pool_gives_nothing_more_from_blocks_it_has(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        await world.add(node, "a")
        node.allocator.set_pools([pool("p", "10.65.0.0/16", disabled=True)])
        stored = (await world.store.list(type(pool("p", "10.65.0.0/16")))).items[0]
        await world.store.delete(stored)
        with pytest.raises(NoPool):
            await world.add(node, "b")

    async def test_pools_too_new_for_the_mirror_are_asked_of_the_store(self, world: World) -> None:
        node = await world.node()
        node.allocator.set_pools([])
        await world.pools(("p", "10.65.0.0/16", None))
        await world.add(node, "a")

    async def test_one_write_assigns_once_a_block_is_there(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        node.allocator.set_pools([pool("p", "10.65.0.0/16")])
        await world.add(node, "a")
        calls = await calls_of(node, world.add(node, "b"))
        assert calls == ["update"]

    async def test_the_first_in_a_new_block_costs_two_writes_and_four_reads(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        node.allocator.set_pools([pool("p", "10.65.0.0/16")])
        assert await calls_of(node, world.add(node, "a")) == ["list", "create", "list", "get", "get", "update"]

    async def test_those_that_arrive_while_a_write_flies_share_the_next(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        node = await world.node()
        node.allocator.set_pools([pool("p", "10.65.0.0/16")])
        await world.add(node, "a")
        calls = await calls_of(node, *(world.add(node, f"h{n}") for n in range(20)))
        assert len(calls) <= 2


class TestIntent:
    async def test_a_handle_whose_last_holder_left_an_intent_is_looked_up_afresh(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/16", None))
        agent, other = await world.node(), await world.node()
        async with other.handles.hold("a") as hold:
            (left,) = await other.allocator.assign(Owner("a", "node-1"), V4, hold)
        (held,) = await world.add(agent, "a")
        assert held.address == left.address
        assert list((await owners(world.store)).values()) == ["a"]

    async def test_an_assign_that_failed_for_good_leaves_no_intent(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/32", 32))
        node = await world.node()
        await world.add(node, "a")
        with pytest.raises(NoAddress):
            await world.add(node, "b")
        assert not node.handles.is_uncertain("b")

    @pytest.mark.parametrize("then", ["released", "assigned again"])
    @pytest.mark.parametrize("lands", ["never", "after all", "at once"])
    async def test_a_write_that_a_dead_process_sent_gives_nobody_an_address_any_more(
        self, world: World, then: str, lands: str
    ) -> None:
        await world.pools(("p", "10.65.0.0/16", None), ("q", "10.66.0.0/16", None))
        dying = await world.node()
        await world.add(dying, "other")
        dying.gate.open = False
        adding = asyncio.ensure_future(world.add(dying, "a"))
        while not any(pending.writes for pending in dying.gate.waiting):
            for pending in dying.gate.waiting:
                pending.fate.set_result(Fate.OK)
            dying.gate.waiting = [pending for pending in dying.gate.waiting if pending.writes]
            await asyncio.sleep(0)
        (sent,) = dying.gate.waiting
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        node = await world.node()
        if lands == "at once":
            await sent.call()
        if then == "released":
            async with node.handles.hold("a") as hold:
                await node.allocator.release_handle("a", hold)
                hold.settle()
        else:
            await world.add(node, "a", Wanted((4,), {4: ("q",)}))
        if lands == "after all":
            with pytest.raises(Conflict):
                await sent.call()
        expected = ["other"] if then == "released" else ["a", "other"]
        assert sorted((await owners(world.store)).values()) == expected


class TestBorrow:
    async def test_with_every_block_taken_a_node_borrows_and_says_so(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        first, second = await world.node("node-1"), await world.node("node-2")
        await world.add(first, "a")
        async with second.handles.hold("b") as hold:
            (held,) = await second.allocator.assign(Owner("b", "node-2"), V4, hold)
        assert second.allocator.borrowed() == {held.address}
        assert second.allocator.networks() == frozenset()
        listed = await world.store.list(IPBlock, Where("node", "node-2"))
        assert len(listed.items) == 1
        await second.allocator.release([held])
        assert second.allocator.borrowed() == frozenset()
        assert (await world.store.list(IPBlock, Where("node", "node-2"))).items == ()

    async def test_the_owner_learns_of_a_borrower_by_losing_its_write(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        first, second = await world.node("node-1"), await world.node("node-2")
        await world.add(first, "a")
        await world.add(second, "b")
        (held,) = await world.add(first, "c")
        assert len(await owners(world.store)) == 3
        assert (await owners(world.store))[held.address] == "c"

    async def test_strict_affinity_borrows_nothing(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        first, second = await world.node("node-1"), await world.node("node-2")
        second.allocator.settings = Settings(strict_affinity=True)
        await world.add(first, "a")
        with pytest.raises(NoAddress):
            await world.add(second, "b")

    async def test_nobody_borrows_from_a_block_that_is_not_ready(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        unready = new_block(ip_network("10.65.0.0/29"), "p", "node-2", "m", world.clock.now)
        await world.store.create(unready.record)
        with pytest.raises(NoAddress):
            await world.add(await world.node(), "a")


class TestClaim:
    async def test_an_unready_block_of_ours_is_taken_up(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/29", 29))
        left = new_block(ip_network("10.65.0.0/29"), "p", "node-1", "machine-node-1", world.clock.now)
        await world.store.create(left.record)
        (held,) = await world.add(await world.node(), "a")
        assert held.block == left.name

    async def test_an_unready_block_of_ours_that_overlaps_anothers_makes_room(self, world: World) -> None:
        await world.pools(("large", "10.65.0.0/28", 28), ("small", "10.65.0.0/28", 29))
        ours = new_block(ip_network("10.65.0.0/28"), "large", "node-1", "machine-node-1", world.clock.now)
        theirs = new_block(ip_network("10.65.0.0/29"), "small", "node-2", "m", world.clock.now).made_ready()
        for block in (ours, theirs):
            await world.store.create(block.record)
        node = await world.node()
        node.allocator.set_pools([pool("small", "10.65.0.0/28", 29)])  # the watch hasn't told of the other one
        (held,) = await world.add(node, "a")
        assert held.address in ip_network("10.65.0.8/29")

    async def test_a_block_of_the_same_node_on_another_machine_is_not_ours(self, world: World) -> None:
        await world.pools(("p", "10.65.0.0/28", 29))
        other = new_block(ip_network("10.65.0.0/29"), "p", "node-1", "another machine", world.clock.now).made_ready()
        await world.store.create(other.record)
        (held,) = await world.add(await world.node(), "a")
        assert held.address in ip_network("10.65.0.8/29")

    async def test_overlapping_claims_of_different_sizes_never_both_become_ready(self, world: World) -> None:
        await world.pools(("small", "10.65.0.0/28", 29), ("large", "10.65.0.0/28", 28))
        nodes = [await world.node(f"node-{n}") for n in (1, 2)]
        nodes[0].allocator.set_pools([pool("small", "10.65.0.0/28", 29)])  # each has seen one of the two
        nodes[1].allocator.set_pools([pool("large", "10.65.0.0/28", 28)])
        wanted = [Wanted((4,), {4: ("small",)}), Wanted((4,), {4: ("large",)})]
        await asyncio.gather(
            *(world.add(node, f"h{n}", wanted[n]) for n, node in enumerate(nodes)), return_exceptions=True
        )
        ready = [block for block in await blocks_of(world.store) if block.record.spec.ready]
        assert not any(a.network.overlaps(b.network) for a in ready for b in ready if a is not b)
