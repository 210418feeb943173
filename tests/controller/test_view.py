"""What the controller knows by watching is what a fresh listing says, whatever the path to it."""

import asyncio
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.pools import tell_usage
from controller.view import WATCHED, View
from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolStatus
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.node import Node as NodeResource
from datastore.resources.node import NodeSpec
from datastore.resources.value import Metadata, Resource
from datastore.store import Gone
from ipam.allocator import Wanted
from ipam.block import Owner
from ipam.claims import read
from ipam.reclaim_departed import absent_nodes
from tests.ipam.test_reclaim import allocation, endpoint, pod
from tests.ipam.world import Clock, Node, pool


def node(name: str) -> NodeResource:
    return NodeResource(metadata=Metadata(name=name), spec=NodeSpec(machine="m"))


OBJECTS: list[Resource] = [
    node("n1"),
    node("n2"),
    node("n3"),
    endpoint("10.65.0.7", node="n1", name="a"),
    endpoint("10.65.0.8", node="n3", name="b", container="c2"),
    pod("web", "u1", "10.65.0.7"),
    ClusterConfiguration(metadata=Metadata(name="default"), spec=ClusterConfigurationSpec(reclaim_grace_seconds=11)),
    IPReservation(metadata=Metadata(name="r"), spec=IPReservationSpec(reserved_cidrs=("10.65.0.252/30",))),
]
STEPS = st.lists(st.tuples(st.integers(0, len(OBJECTS) - 1), st.booleans()), max_size=25)


async def listed(store: MemoryStore) -> View:
    view = View()
    for kind in WATCHED:
        view.told(kind)[0]((await store.list(kind)).items)
    return view


async def blocks(store: MemoryStore, folder: Path) -> None:
    """Blocks that name n1, n2 and, by a tunnel end, n3."""
    await store.create(pool("p", "10.65.0.0/24"))
    for name, handle in (("n1", "net:c1:eth0"), ("n2", "tunnel/n3")):
        made = Node(name, store, folder, Clock())
        async with made.handles.hold(handle) as hold:
            await made.allocator.assign(Owner(handle, name), Wanted((4,)), hold)


@given(STEPS)
def test_changes_lead_to_the_same_view_as_a_listing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await blocks(store, tmp_path_factory.mktemp("view"))
        followed = await listed(store)
        there: dict[int, Resource] = {}
        for place, wanted in steps:
            if wanted and place not in there:
                there[place] = await store.create(OBJECTS[place])
                followed.told(type(OBJECTS[place]))[1]([there[place]])
            elif not wanted and place in there:
                gone = there.pop(place)
                await store.delete(gone)
                followed.told(type(gone))[1]([Gone(gone.namespace, gone.name)])
        fresh = await listed(store)
        assert followed.absent() == fresh.absent() == await absent_nodes(store)
        assert (followed.settings, followed.reservations) == (fresh.settings, fresh.reservations)
        address, owned = ip_address("10.65.0.7"), allocation()
        claims = await read(store)
        assert followed.claims.of(address, owned) is fresh.claims.of(address, owned) is claims.of(address, owned)
        for gone in (await store.list(IPBlock)).items[:1]:
            await store.delete(gone)
            followed.told(IPBlock)[1]([Gone("", gone.name)])
        assert followed.absent() == await absent_nodes(store)
        for kind in WATCHED:
            for gone in (await store.list(kind)).items[1:]:
                await store.delete(gone)
        for kind in WATCHED:
            followed.told(kind)[0]((await store.list(kind)).items)
        assert followed.absent() == await absent_nodes(store)
        assert set(followed.reservations) == {one.name for one in (await store.list(IPReservation)).items}

    asyncio.run(scenario())


async def test_a_block_is_kept_without_its_owners(tmp_path: Path) -> None:
    store = MemoryStore()
    await blocks(store, tmp_path)
    view = await listed(store)
    for found in (await store.list(IPBlock)).items:
        kept = view.blocks[found.name].spec
        assert (set(kept.allocations), kept.cidr) == (set(found.spec.allocations), found.spec.cidr)
        assert all("net:" not in one.handle for one in kept.allocations.values())


class TestUsage:
    async def test_a_pool_says_how_full_it_is_and_is_written_only_when_that_has_changed(self, tmp_path: Path) -> None:
        store = MemoryStore()
        await blocks(store, tmp_path)
        view = await listed(store)
        assert await tell_usage(store, view) == 1
        (found,) = (await store.list(IPPool)).items
        assert (found.status.capacity, found.status.used, found.status.free, found.status.blocks) == (256, 2, 254, 2)
        view.pools["p"] = await store.update(msgspec.structs.replace(found, status=IPPoolStatus()))
        assert await tell_usage(store, view) == 0, "nothing has changed that counts"
        view.told(IPPool)[1]([view.pools["p"]])
        assert await tell_usage(store, view) == 1
        found = await store.get(IPPool, "p")
        view.told(IPPool)[1]([found])
        assert await tell_usage(store, view) == 0
        assert (await store.get(IPPool, "p")).revision == found.revision

    async def test_reservations_count_as_not_free(self, tmp_path: Path) -> None:
        store = MemoryStore()
        await blocks(store, tmp_path)
        await store.create(OBJECTS[-1])
        await tell_usage(store, await listed(store))
        assert (await store.get(IPPool, "p")).status.free == 250

    async def test_a_pool_that_somebody_changes_meanwhile_is_counted_again(self, tmp_path: Path) -> None:
        store = MemoryStore()
        await blocks(store, tmp_path)
        view = await listed(store)
        await store.update(await store.get(IPPool, "p"))
        assert await tell_usage(store, view) == 0
        view.told(IPPool)[0]((await store.list(IPPool)).items)
        assert await tell_usage(store, view) == 1
