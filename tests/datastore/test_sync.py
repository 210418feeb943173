"""One kind is kept up with: listings say what is gone, outages are waited out, lost history is listed again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from datastore.errors import Unavailable
from datastore.memory import MemoryStore
from datastore.resources.kubernetes import Namespace
from datastore.resources.value import Metadata, Resource
from datastore.store import Batch, Gone, Listing, Revision, Where
from datastore.sync import KindSync

R = TypeVar("R", bound=Resource)


class Mirror:
    """What a listener would know."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.listings = 0

    def on_listed(self, listed: Sequence[Namespace]) -> None:
        self.listings += 1
        self.names = {one.name for one in listed}

    def on_changed(self, changes: Sequence[Namespace | Gone]) -> None:
        for change in changes:
            if isinstance(change, Gone):
                self.names.discard(change.name)
            else:
                self.names.add(change.name)


class Flaky(MemoryStore):
    """Fails when told."""

    away = False
    watches = 0

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        if self.away:
            raise Unavailable("away")
        return await super().list(kind, where)

    async def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        self.watches += 1
        async for batch in super().watch(kind, start, where):
            if self.away:
                raise Unavailable("away")
            yield batch


def named(name: str) -> Namespace:
    return Namespace(metadata=Metadata(name=name))


@asynccontextmanager
async def kept(store: MemoryStore, mirror: Mirror) -> AsyncIterator[KindSync[Namespace]]:
    sync = KindSync(store, Namespace, mirror.on_listed, mirror.on_changed)
    task = asyncio.ensure_future(sync.run())
    async with asyncio.timeout(5):
        yield sync
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until_it_knows(mirror: Mirror, names: set[str]) -> None:
    async with asyncio.timeout(5):
        while mirror.names != names:
            await asyncio.sleep(0.005)


async def test_a_listing_comes_first_and_changes_follow() -> None:
    store, mirror = MemoryStore(), Mirror()
    await store.create(named("a"))
    async with kept(store, mirror) as sync:
        await sync.listed.wait()
        assert mirror.names == {"a"}
        b = await store.create(named("b"))
        await until_it_knows(mirror, {"a", "b"})
        await store.delete(b)
        await until_it_knows(mirror, {"a"})
    assert mirror.listings == 1


async def test_an_outage_is_waited_out_without_listing_again() -> None:
    store, mirror = Flaky(), Mirror()
    async with kept(store, mirror) as sync:
        await sync.listed.wait()
        store.away = True
        await store.create(named("a"))
        async with asyncio.timeout(5):
            while not sync.failure:
                await asyncio.sleep(0.005)
        store.away = False
        await until_it_knows(mirror, {"a"})
        assert sync.failure == ""
    assert mirror.listings == 1
    assert store.watches >= 2


async def test_a_store_that_is_away_at_first_is_waited_for() -> None:
    store, mirror = Flaky(), Mirror()
    store.away = True
    async with kept(store, mirror) as sync:
        await asyncio.sleep(0.02)
        assert not sync.listed.is_set()
        store.away = False
        await sync.listed.wait()


async def test_lost_history_is_listed_again_and_what_went_meanwhile_is_gone() -> None:
    store, mirror = Flaky(keep=2), Mirror()
    first = await store.create(named("a"))
    async with kept(store, mirror) as sync:
        await sync.listed.wait()
        store.away = True
        await store.delete(first)
        for number in range(6):
            await store.create(named(f"n{number}"))
        async with asyncio.timeout(5):
            while not sync.failure:
                await asyncio.sleep(0.005)
        store.away = False
        await until_it_knows(mirror, {f"n{number}" for number in range(6)})
    assert mirror.listings >= 2
