"""What a controller does, on every datastore: it leads, takes back what a departed node left, and counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from controller.leader import NAME
from controller.pools import tell_usage
from controller.view import WATCHED, View
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.lease import Lease
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from ipam import claims
from ipam.allocator import Allocator, Wanted
from ipam.block import Owner
from ipam.handles import Handles
from ipam.reclaim_departed import DepartedReclaim, absent_nodes
from tests.controller.test_leader import Candidate
from tests.datastore.drivers import DRIVERS
from tests.ipam.test_reclaim import endpoint
from tests.ipam.world import Clock, no_pause, pool

SETTINGS = ClusterConfigurationSpec(reclaim_grace_seconds=30, cooldown_seconds=0)


@pytest.fixture(params=[name for name in DRIVERS if name != "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        yield await DRIVERS[request.param](tmp_path, stack)()


async def node_with_a_pod(store: Store, folder: Path) -> None:
    await store.create(pool("p", "10.65.0.0/24"))
    await store.create(Node(metadata=Metadata(name="n3"), spec=NodeSpec(machine="m3")))
    allocator, handles = Allocator(store, "n3", "m3"), Handles(folder / "handles")
    async with handles.hold("net:c1:eth0") as hold:
        (held,) = await allocator.assign(Owner("net:c1:eth0", "n3", "web", "shop"), Wanted((4,)), hold)
    await store.create(endpoint(str(held.address)))


async def test_what_a_departed_node_left_comes_back(store: Store, tmp_path: Path) -> None:
    await node_with_a_pod(store, tmp_path)
    clock = Clock()
    reclaim = DepartedReclaim(store, clock=clock, wall=clock, pause=no_pause)
    await store.delete(await store.get(Node, "n3"))
    done: list[str] = []
    for _ in range(6):
        done += await reclaim.look(await absent_nodes(store), await claims.read(store), SETTINGS)
        clock.now += 10
    assert [line.split()[0] for line in done] == ["deleted", "reclaimed", "deleted"]
    assert [*(await store.list(IPBlock)).items, *(await store.list(WorkloadEndpoint)).items] == []


async def test_pools_say_how_full_they_are(store: Store, tmp_path: Path) -> None:
    await node_with_a_pod(store, tmp_path)
    view = View()
    for kind in WATCHED:
        view.told(kind)[0]((await store.list(kind)).items)
    assert await tell_usage(store, view) == 1
    status = (await store.get(IPPool, "p")).status
    assert (status.capacity, status.used, status.free, status.blocks) == (256, 1, 255, 1)


async def test_one_leads_and_gives_the_lease_up(store: Store) -> None:
    first = Candidate(store, "a", Clock())
    await first.leads()
    second = Candidate(store, "b", Clock())
    async with asyncio.timeout(60):
        while second.election.holder != "a":
            await asyncio.sleep(0.01)
    assert not second.working
    await first.end()
    await second.leads()
    await second.end()
    spec = (await store.get(Lease, NAME, "kube-system")).spec
    assert (spec.holder_identity, spec.lease_transitions) == ("", 1)
