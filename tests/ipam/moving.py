"""A cluster whose pods come and go while its datastore is being moved, and what must be so at its end."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from datastore.errors import StoreError
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Revision, Store, Where
from datastore.transfer import mark
from ipam.allocator import Allocator, Settings, Wanted
from ipam.block import Address, Block, Owner
from ipam.errors import Frozen, IpamError, Migrating
from ipam.group_commit import Moved
from ipam.handles import Handles
from tests.ipam.world import Clock, no_pause

R = TypeVar("R", bound=Resource)
T = TypeVar("T")


class Killed(Exception):
    """The migrator died here."""


class Mortal:
    """A store whose user dies at its nth write, counted over all stores of one `Life`."""

    def __init__(self, inner: Store, life: "Life") -> None:
        self._inner = inner
        self._life = life

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return await self._inner.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        return await self._inner.list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        return self._inner.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        return await self._life.step(lambda: self._inner.create(resource))

    async def update(self, resource: R) -> R:
        return await self._life.step(lambda: self._inner.update(resource))

    async def delete(self, resource: Resource) -> None:
        await self._life.step(lambda: self._inner.delete(resource))

    async def close(self) -> None:
        pass


@dataclass
class Life:
    """Ends at a write: before it is done, or just after."""

    writes: int
    after: bool = False
    made: int = 0

    async def step(self, call: Callable[[], Awaitable[T]]) -> T:
        if self.made > self.writes:
            raise Killed  # the dead write nothing
        self.made += 1
        if self.made > self.writes and not self.after:
            raise Killed
        result = await call()
        if self.made > self.writes:
            raise Killed
        return result


@dataclass
class Load:
    """Pods of some nodes, each given an address and giving it back again and again, wherever the datastore is."""

    stores: Mapping[str, Store]
    """By address; the first is where everybody begins."""
    folder: Path
    pods: int = 3
    stubborn: frozenset[str] = frozenset()
    """Nodes that follow nowhere: they wait where they are."""
    clock: Clock = field(default_factory=Clock)
    owners: dict[Address, str] = field(default_factory=dict)
    """Who has been given what, and hasn't begun to give it back."""
    cycles: Counter[str] = field(default_factory=Counter)
    """Rounds of pods, by node."""
    where: dict[str, str] = field(default_factory=dict)
    """The address that each node uses."""
    ending: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, *nodes: str) -> None:
        """Until `end` and every pod has ended its round; one pod of each node stays."""
        async with asyncio.TaskGroup() as tasks:
            for name in nodes:
                self.where[name] = next(iter(self.stores))
                node = _Node(self, name)
                await node.load()
                for number in range(self.pods):
                    tasks.create_task(self._live(node, f"{name}-pod-{number}", stays=number == 0))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self.changed, asyncio.timeout(60):
            await self.changed.wait_for(condition)

    async def rounds(self, number: int) -> None:
        """Return when each node's pods have ended so many more rounds."""
        before = Counter(self.cycles)
        await self.until(lambda: all(self.cycles[node] >= before[node] + number for node in self.where))

    async def _live(self, node: "_Node", pod: str, *, stays: bool) -> None:
        for number in count():
            handle = f"podnet:{pod}-{number}:eth0"
            async with node.handles.hold(handle) as hold:

                async def give(handle: str = handle, hold: object = hold) -> Address:
                    owner = Owner(handle, node.name, pod, "shop")
                    (held,) = await node.allocator.assign(owner, Wanted((4,)), hold, again=True)  # type: ignore[arg-type]
                    return held.address

                address = await node.insist(give)
                assert address not in self.owners, f"{address} has two owners: {self.owners[address]} and {handle}"
                self.owners[address] = handle
                last = self.ending
                if not (last and stays):
                    await asyncio.sleep(0)
                    del self.owners[address]

                    async def take(handle: str = handle) -> None:
                        await node.allocator.release_handle(handle)

                    await node.insist(take)
                hold.settle()
            async with self.changed:
                self.cycles[node.name] += 1
                self.clock.now += 5
                self.changed.notify_all()
            if last:
                return


class _Node:
    def __init__(self, load: Load, name: str) -> None:
        self.name = name
        self.handles = Handles(load.folder / name)
        self._load = load
        self.allocator = self._allocator()

    def _allocator(self) -> Allocator:
        store = self._load.stores[self._load.where[self.name]]
        return Allocator(store, self.name, f"machine-{self.name}", clock=self._load.clock, pause=no_pause)

    async def load(self) -> None:
        await self.allocator.load()

    async def insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """As a runtime or a journal does: again and again, and on the target once the source says so."""
        while True:
            try:
                return await work()
            except (Frozen, Migrating, Moved):
                await self._follow()
            except (StoreError, IpamError) as error:
                raise AssertionError(f"{type(error).__name__}: {error}") from error

    async def _follow(self) -> None:
        await asyncio.sleep(0.001)
        store = self._load.stores[self._load.where[self.name]]
        migration = mark.migration_of(await mark.read(store))
        if migration is None or migration.phase != mark.MOVED or self.name in self._load.stubborn:
            self.allocator.settings = Settings.of(ClusterConfigurationSpec(migration=migration))
            return
        self._load.where[self.name] = migration.to
        allocator = self._allocator()
        await allocator.load()
        self.allocator = allocator


async def owners_in(store: Store) -> dict[Address, str]:
    """Who owns what, by the store alone; one owner for each address."""
    found: dict[Address, str] = {}
    for block in map(Block.read, (await store.list(IPBlock)).items):
        for ordinal, allocation in block.record.spec.allocations.items():
            address = block.address_of(int(ordinal))
            assert address not in found, f"{address} is owned twice"
            found[address] = allocation.handle
    return found
