"""A pool is split while pods come and go: wherever that dies, they get addresses, and splitting again ends it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import Migration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.transfer import mark
from ipam import survey
from ipam.allocator import Wanted
from ipam.audit import audit
from ipam.block import Owner
from ipam.errors import Frozen, Migrating, NoAddress
from ipam.findings import Fault
from ipam.pools import SPLIT_OF, Catalogue
from ipam.split import CannotSplit, split
from tests.ipam.cluster import block
from tests.ipam.moving import Killed, Life, Load, Mortal, owners_in
from tests.ipam.world import Clock, Node, pool

PARTS = {"blue-0": "10.65.0.0/27", "blue-1": "10.65.0.32/27"}


def untold(_: str) -> None:
    pass


async def pools_of(store: MemoryStore) -> dict[str, str]:
    return {one.name: one.spec.cidr for one in (await store.list(IPPool)).items}


async def split_under_load(folder: Path, life: Life) -> bool:
    """Whether it died of `life` first. `Load` fails at once if a pod gets no address."""
    store = MemoryStore()
    await store.create(pool("blue", "10.65.0.0/26", 29))
    load = Load({"memory:": store}, folder)
    running = asyncio.create_task(load.run("node-1", "node-2"))
    try:
        await load.until(lambda: sum(load.cycles.values()) >= 6)
        died = False
        try:
            await split(Mortal(store, life), "blue", 2, untold)
        except Killed:
            died = True
            await load.rounds(4)
            await split(store, "blue", 2, untold)
        await load.rounds(2)
        load.ending = True
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await pools_of(store) == PARTS
    assert await owners_in(store) == load.owners
    found = audit(await survey.read(store), load.clock())
    assert {one.fault for one in found} <= {Fault.NODE_GONE, Fault.LEAKED}  # there are no Nodes or endpoints
    assert not any(SPLIT_OF in one.metadata.annotations for one in (await store.list(IPPool)).items)
    return died


@pytest.mark.parametrize("after", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_a_split_under_load_fails_nobody_wherever_it_dies(tmp_path: Path, after: bool) -> None:
    writes = 0
    while await split_under_load(tmp_path / f"{writes}", Life(writes, after)):
        writes += 1
    assert writes > 6  # two parts, blocks, disabled, deleted, two parts whole


class TestOneNode:
    @pytest.fixture
    async def store(self) -> MemoryStore:
        store = MemoryStore()
        await store.create(pool("blue", "10.65.0.0/26", 28))
        await store.create(block("10.65.0.0/28", "node-1"))
        await store.create(block("10.65.0.48/28", "node-2"))
        return store

    async def test_blocks_go_to_the_part_that_they_lie_in_and_nothing_else_changes(self, store: MemoryStore) -> None:
        before = {one.name: one.spec for one in (await store.list(IPBlock)).items}
        assert await split(store, "blue", 2, untold) == ("blue-0", "blue-1")
        after = {one.name: one.spec for one in (await store.list(IPBlock)).items}
        assert {name: spec.pool for name, spec in after.items()} == {
            "10-65-0-0-28": "blue-0",
            "10-65-0-48-28": "blue-1",
        }
        assert after == {name: msgspec.structs.replace(spec, pool=after[name].pool) for name, spec in before.items()}

    async def test_parts_are_as_the_pool_was(self, store: MemoryStore) -> None:
        found = await store.get(IPPool, "blue")
        spec = msgspec.structs.replace(found.spec, nat_outgoing=True, node_selector="rack == 'a'", disabled=True)
        labels = msgspec.structs.replace(found.metadata, labels={"a": "b"}, annotations={"c": "d"})
        await store.update(msgspec.structs.replace(found, spec=spec, metadata=labels))
        await split(store, "blue", 4, untold)
        parts = (await store.list(IPPool)).items
        assert [one.spec.cidr for one in parts] == [f"10.65.0.{number}/28" for number in (0, 16, 32, 48)]
        assert all(one.spec == msgspec.structs.replace(spec, cidr=one.spec.cidr) for one in parts)
        assert all((one.metadata.labels, one.metadata.annotations) == ({"a": "b"}, {"c": "d"}) for one in parts)

    async def test_who_has_not_seen_it_yet_claims_nothing_in_the_pool(self, store: MemoryStore, tmp_path: Path) -> None:
        """Its agent's watch is behind: it sees the pool as it was, and is refused until it has caught up."""
        late = Node("node-3", store, tmp_path, Clock())
        late.allocator.set_pools((await store.list(IPPool)).items)
        await split(store, "blue", 2, untold)
        async with late.handles.hold("h") as hold:
            with pytest.raises(NoAddress):
                await late.allocator.assign(Owner("h", "node-3"), Wanted((4,)), hold)
            late.allocator.set_pools((await store.list(IPPool)).items)
            await late.allocator.assign(Owner("h", "node-3"), Wanted((4,)), hold)
        assert {one.spec.pool for one in (await store.list(IPBlock)).items} == {"blue-0", "blue-1"}

    async def test_pool_and_parts_serve_side_by_side(self, store: MemoryStore) -> None:
        with pytest.raises(Killed):
            await split(Mortal(store, Life(2, after=True)), "blue", 2, untold)
        catalogue = Catalogue((await store.list(IPPool)).items)
        assert [one.name for one in catalogue.eligible(4)] == ["blue", "blue-0", "blue-1"]
        assert catalogue.unused == {}

    async def test_another_pool_that_overlaps_is_in_conflict_all_the_same(self, store: MemoryStore) -> None:
        with pytest.raises(Killed):
            await split(Mortal(store, Life(2, after=True)), "blue", 2, untold)
        await store.create(pool("red", "10.65.0.0/27", 28))
        assert set(Catalogue((await store.list(IPPool)).items).unused) == {"red"}

    async def test_splitting_again_changes_nothing(self, store: MemoryStore) -> None:
        await split(store, "blue", 2, untold)
        before = (await store.list(IPPool)).items, (await store.list(IPBlock)).items
        assert await split(store, "blue", 2, untold) == ("blue-0", "blue-1")
        assert ((await store.list(IPPool)).items, (await store.list(IPBlock)).items) == before

    @pytest.mark.parametrize(
        ("name", "count", "words", "bad"),
        [
            pytest.param("red", 2, "not in the datastore", False, id="no such pool"),
            pytest.param("blue", 3, "2, 4, 8", True, id="no power of two"),
            pytest.param("blue", 1, "2, 4, 8", True, id="one part"),
            pytest.param("blue", 0, "2, 4, 8", True, id="no part"),
            pytest.param("blue", 8, "has 4 blocks of /28, too few for 8", True, id="parts smaller than a block"),
            pytest.param("blue", 512, "2, 4, 8", True, id="very many parts"),
        ],
    )
    async def test_what_cannot_be_split_so_is_refused(
        self, store: MemoryStore, name: str, count: int, words: str, bad: bool
    ) -> None:
        with pytest.raises(CannotSplit, match=words) as refused:
            await split(store, name, count, untold)
        assert refused.value.bad_input is bad
        assert await pools_of(store) == {"blue": "10.65.0.0/26"}

    async def test_another_number_than_the_one_begun_with_is_refused(self, store: MemoryStore) -> None:
        with pytest.raises(Killed):
            await split(Mortal(store, Life(3)), "blue", 2, untold)
        with pytest.raises(CannotSplit, match="is being split into other parts"):
            await split(store, "blue", 4, untold)

    async def test_a_pool_of_a_parts_name_is_in_the_way(self, store: MemoryStore) -> None:
        await store.create(pool("blue-1", "10.66.0.0/26"))
        with pytest.raises(CannotSplit, match="blue-1 is there already"):
            await split(store, "blue", 2, untold)

    async def test_a_block_that_is_larger_than_a_part_is_in_the_way(self, store: MemoryStore) -> None:
        await store.create(block("10.65.0.0/26", "node-4"))
        with pytest.raises(CannotSplit, match=r"10.65.0.0/26 of blue is in none"):
            await split(store, "blue", 2, untold)

    async def test_while_the_datastore_is_being_moved_nothing_is_split(self, store: MemoryStore) -> None:
        await mark.write(store, mark.marked(None, Migration(id="m1", to="memory:")))
        with pytest.raises(Migrating):
            await split(store, "blue", 2, untold)

    async def test_a_block_that_froze_meanwhile_ends_it(self, store: MemoryStore) -> None:
        found = await store.get(IPBlock, "10-65-0-0-28")
        await store.update(msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, frozen="m1")))
        with pytest.raises(Frozen):
            await split(store, "blue", 2, untold)
