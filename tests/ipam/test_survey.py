"""Looking at a datastore: nothing is found on a busy healthy cluster, and what is wrong is found on it all the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import pytest

from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node
from datastore.resources.value import Metadata, Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint, WorkloadEndpointSpec
from ipam import survey
from ipam.allocator import Wanted
from ipam.audit import audit
from ipam.block import Held, Owner
from ipam.findings import Fault
from tests.datastore.drivers import PATIENCE_S
from tests.ipam import world
from tests.ipam.cluster import FIRST_BLOCK, LONG_AGO, NOW, Objects, allocation, endpoint, healthy, node, pool

_NODES = 3
_PODS = 6


@dataclass
class Busy:
    """A cluster whose pods come and go, as agents write it: address, endpoint; endpoint and address; the Node late."""

    store: MemoryStore
    folder: Path
    clock: world.Clock
    rounds: int = 0
    moved_on: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def pause(self, _: float) -> None:
        """Let every pod come and go."""
        async with self.moved_on:
            until = self.rounds + 2 * _NODES * _PODS
            async with asyncio.timeout(PATIENCE_S):
                await self.moved_on.wait_for(lambda: self.rounds >= until)

    async def run(self, name: str) -> None:
        here = world.Node(name, self.store, self.folder, self.clock)
        await here.allocator.load()
        told = await self.store.create(node(name))
        changed = asyncio.Event()
        here.allocator.on_change = changed.set
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell(here, told, changed))
            for number in range(_PODS):
                tasks.create_task(self._come_and_go(here, f"{name}-pod-{number}"))

    async def _tell(self, here: world.Node, told: Node, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            blocks = tuple(sorted(map(str, here.allocator.networks())))
            borrowed = tuple(sorted(map(str, here.allocator.borrowed())))
            spec = msgspec.structs.replace(told.spec, machine=f"machine-{here.name}", blocks=blocks, borrowed=borrowed)
            told = await self.store.update(msgspec.structs.replace(told, spec=spec))

    async def _come_and_go(self, here: world.Node, pod: str) -> None:
        for number in count():
            handle = f"podnet:{pod}-{number}:eth0"
            owner = Owner(handle, here.name, pod, "shop")
            async with here.handles.hold(handle) as hold:
                (held,) = await here.allocator.assign(owner, Wanted((4,)), hold)
                written = await self.store.create(_endpoint(pod, number, here.name, held))
                await asyncio.sleep(0.01)  # a writer that never rests would let no other in, in lockstep as all are
                await asyncio.gather(here.allocator.release([held]), self.store.delete(written))
                hold.settle()
            async with self.moved_on:
                self.rounds += 1
                self.clock.now += 2  # what is free again must cool
                self.moved_on.notify_all()


def _endpoint(pod: str, number: int, name: str, held: Held) -> WorkloadEndpoint:
    spec = WorkloadEndpointSpec(
        node=name,
        pod=pod,
        container_id=f"{pod}-{number}",
        network="podnet",
        interface="eth0",
        host_interface="tort0123456789a",
        addresses=(str(held.address),),
    )
    return WorkloadEndpoint(metadata=Metadata(name=f"{pod}-{number}", namespace="shop"), spec=spec)


@asynccontextmanager
async def busy(folder: Path) -> AsyncIterator[Busy]:
    """A cluster with a pool of four small blocks, so that nodes also borrow."""
    cluster = Busy(MemoryStore(), folder, world.Clock())
    cluster.clock.now = NOW
    await cluster.store.create(pool(cidr="10.65.0.0/26", block_size=28))
    nodes = [asyncio.create_task(cluster.run(f"node-{number}")) for number in range(1, _NODES + 1)]
    try:
        yield cluster
    finally:
        for one in nodes:
            one.cancel()
        for ended in await asyncio.gather(*nodes, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended


async def test_nothing_is_found_on_a_busy_healthy_cluster(tmp_path: Path) -> None:
    suspicious = 0
    async with busy(tmp_path) as cluster:
        for _ in range(30):
            await cluster.pause(0)
            suspicious += bool(audit(await survey.read(cluster.store), NOW))
            assert await survey.found_in(cluster.store, cluster.clock, cluster.pause) == []
    assert suspicious  # one look alone would have found something


async def test_a_leak_on_a_busy_cluster_is_found(tmp_path: Path) -> None:
    async with busy(tmp_path) as cluster:
        await cluster.pause(0)
        lost = world.Node("node-1", cluster.store, tmp_path / "lost", cluster.clock)
        await lost.allocator.load()
        async with lost.handles.hold("podnet:lost:eth0") as hold:
            owner = Owner("podnet:lost:eth0", "node-1", "lost", "shop")
            (held,) = await lost.allocator.assign(owner, Wanted((4,)), hold)
            hold.settle()
        findings = await survey.found_in(cluster.store, cluster.clock, cluster.pause)
        assert [(one.fault, one.subject) for one in findings] == [(Fault.LEAKED, str(held.address))]


async def stored(objects: Objects) -> MemoryStore:
    store = MemoryStore()
    for one in objects.by_key.values():
        await store.create(one)
    return store


Mend = Callable[[MemoryStore], Awaitable[object]]


def puts(*resources: Resource) -> Mend:
    async def mend(store: MemoryStore) -> None:
        for one in resources:
            await store.create(one)

    return mend


async def frees_the_address(store: MemoryStore) -> None:
    found = await store.get(IPBlock, "10-65-0-0-26")
    allocations = {key: one for key, one in found.spec.allocations.items() if key != "4"}
    spec = msgspec.structs.replace(found.spec, allocations=allocations, released=((4, NOW),))
    await store.update(msgspec.structs.replace(found, spec=spec))


def leaking() -> Objects:
    found = healthy()
    spec = found.by_key[FIRST_BLOCK].spec  # type: ignore[attr-defined]
    owners = [*spec.allocations.values(), allocation("gone", "node-1", since=LONG_AGO)]
    allocations = {str(ordinal): owner for ordinal, owner in enumerate(owners)}
    return found.changed(FIRST_BLOCK, lambda before: msgspec.structs.replace(before, allocations=allocations, fresh=5))  # type: ignore[type-var]


@pytest.mark.parametrize(
    "mend",
    [
        pytest.param(puts(endpoint("gone", "node-1", "10.65.0.4")), id="its endpoint appears"),
        pytest.param(frees_the_address, id="it is freed"),
    ],
)
async def test_what_is_all_right_at_a_later_look_is_not_told(mend: Mend) -> None:
    store = await stored(leaking())
    looks = 0

    async def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == survey.LOOKS - 1:
            await mend(store)

    assert await survey.found_in(store, lambda: NOW, pause) == []
    assert looks == survey.LOOKS - 1


async def test_what_every_look_finds_is_told() -> None:
    store = await stored(leaking())

    async def pause(_: float) -> None:
        pass

    (finding,) = await survey.found_in(store, lambda: NOW, pause)
    assert (finding.fault, finding.subject) == (Fault.LEAKED, "10.65.0.4")
