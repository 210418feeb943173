"""Stores in etcd for the contract suite: each below a prefix of its own in a server that the whole test run shares.

An etcd keeps what its administrator tells it to keep (--auto-compaction), so the `keep` of a test's opener is done
here: after a write, the server is told to forget.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, TypeVar

from datastore.etcd.address import parse
from datastore.etcd.store import EtcdStore
from datastore.resources.value import Resource
from datastore.revisions import History
from datastore.store import Batch, Listing, Revision, Store, Where
from tests.servers import etcd

R = TypeVar("R", bound=Resource)


class Compacting:
    """A store whose server is compacted so that it keeps `keep` revisions, or up to a tenth more."""

    def __init__(self, inner: Store, server: etcd.Etcd, keep: int) -> None:
        self._inner = inner
        self._server = server
        self._keep = keep
        self._history = History("", 0, 0)

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return await self._inner.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        return await self._inner.list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        return self._inner.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        return await self._compacted(await self._inner.create(resource))

    async def update(self, resource: R) -> R:
        return await self._compacted(await self._inner.update(resource))

    async def delete(self, resource: Resource) -> None:
        await self._inner.delete(resource)
        await self._compact(self._history.newest + 1)  # at least

    async def close(self) -> None:
        await self._inner.close()

    async def _compacted(self, written: R) -> R:
        await self._compact(int(written.revision.partition("-")[0]))
        return written

    async def _compact(self, newest: int) -> None:
        before = self._history
        grown = History("", before.compacted or newest, max(newest, before.newest))
        self._history = History("", grown.compact_to(self._keep), grown.newest)
        if before.compacted and self._history.compacted > before.compacted:
            await asyncio.to_thread(self._server.compact, self._history.compacted)


class Opener(Protocol):
    """As `drivers.Opener`."""

    async def __call__(self, *, keep: int = 1000, bookmark_s: float = 60.0) -> Store: ...


def on_etcd(version: str) -> Callable[[Path, AsyncExitStack], Opener]:
    """Stores in the shared server of a version."""

    def driver(folder: Path, stack: AsyncExitStack) -> Opener:
        server = etcd.shared(version)

        async def open_new(*, keep: int = 1000, bookmark_s: float = 60.0) -> Store:
            store = await EtcdStore.open(parse(server.url()), bookmark_s=bookmark_s)
            stack.push_async_callback(store.close)
            return Compacting(store, server, keep)

        return open_new

    return driver
