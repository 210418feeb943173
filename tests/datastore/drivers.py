"""The drivers that one contract suite holds to account, and how its tests look at watches."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pytest

from datastore.memory import MemoryStore
from datastore.postgresql.address import parse
from datastore.postgresql.postgresql import PostgreSQLStore
from datastore.resources.value import Resource
from datastore.sql.journal import Journal
from datastore.sql.sqlite import SQLiteStore
from datastore.store import Batch, Gone, Store
from tests.datastore.etcd.opener import on_etcd
from tests.servers import postgresql

R = TypeVar("R", bound=Resource)

PERSIST = Journal("persist", "chosen by a test, whatever the library's version")
WAL = Journal("wal", PERSIST.reason)
"""The bug that keeps WAL from older libraries is a race of checkpoints, too rare to disturb a test."""

PATIENCE_S = 60.0
"""How long a test waits for what must come; no test waits for a time to pass."""


class Opener(Protocol):
    """Makes a new, empty store that lives until the test ends."""

    async def __call__(self, *, keep: int = 1000, bookmark_s: float = 60.0) -> Store: ...


Driver = Callable[[Path, AsyncExitStack], Opener]
"""Gives stores of one driver; files are made below the folder, and what is pushed on the stack ends with the test."""


def on_memory(folder: Path, stack: AsyncExitStack) -> Opener:
    """Stores in this process's memory."""

    async def open_new(*, keep: int = 1000, bookmark_s: float = 60.0) -> Store:
        store = MemoryStore(keep=keep, bookmark_s=bookmark_s)
        stack.push_async_callback(store.close)
        return store

    return open_new


def on_sqlite(journal: Journal) -> Driver:
    """Stores in SQLite files with a journal of this mode."""

    def driver(folder: Path, stack: AsyncExitStack) -> Opener:
        numbers = count()

        async def open_new(*, keep: int = 1000, bookmark_s: float = 60.0) -> Store:
            path = folder / f"{next(numbers)}" / "store.db"
            store = await SQLiteStore.open(path, keep=keep, bookmark_s=bookmark_s, journal=journal)
            stack.push_async_callback(store.close)
            return store

        return open_new

    return driver


def on_postgresql(folder: Path, stack: AsyncExitStack) -> Opener:
    """Stores in schemas of a PostgreSQL server."""

    async def open_new(*, keep: int = 1000, bookmark_s: float = 60.0) -> Store:
        if reason := postgresql.missing():
            pytest.skip(reason)
        server = await postgresql.shared_server()
        url = server.url(await server.new_store(), server.port)
        store = await PostgreSQLStore.open(parse(url), keep=keep, bookmark_s=bookmark_s)
        stack.push_async_callback(store.close)
        return store

    return open_new


def on_kubernetes(folder: Path, stack: AsyncExitStack) -> Opener:
    """Stores on a real API server, which is started when the first test asks for one."""
    from tests.kube.stores import on_server

    return on_server(folder, stack)


DRIVERS: Mapping[str, Driver] = {
    "etcd": on_etcd("etcd"),
    "etcd-3.4": on_etcd("etcd-3.4"),
    "memory": on_memory,
    "postgresql": on_postgresql,
    "sqlite-truncate": on_sqlite(PERSIST),
    "sqlite-wal": on_sqlite(WAL),
    "kubernetes": on_kubernetes,
}


@dataclass
class Follower(Generic[R]):
    """What a consumer of a watch holds: a mirror, folded from its batches."""

    watch: AsyncGenerator[Batch[R], None]
    mirror: dict[tuple[str, str], R] = field(default_factory=dict)
    batches: list[Batch[R]] = field(default_factory=list)

    async def next(self) -> Batch[R]:
        """The next batch, folded in."""
        async with asyncio.timeout(PATIENCE_S):
            batch = await anext(self.watch)
        self.batches.append(batch)
        for change in batch.changes:
            if isinstance(change, Gone):
                del self.mirror[change.namespace, change.name]
            else:
                self.mirror[change.namespace, change.name] = change
        return batch

    async def until(self, condition: Callable[[dict[tuple[str, str], R]], bool]) -> None:
        """Read until the mirror fulfils `condition`."""
        while not condition(self.mirror):
            await self.next()

    async def until_sees(self, name: str) -> None:
        """Read until an object of that name is in the mirror."""
        await self.until(lambda mirror: any(key[1] == name for key in mirror))

    def names(self) -> set[str]:
        """The names in the mirror."""
        return {name for _, name in self.mirror}
