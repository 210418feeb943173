"""The Store in a SQLite file, which several processes may share.

loop ── Writer ── thread ── connection ──┐
  │                                      ├── file, -journal or -wal
  ├──── Reader ── thread ── connection ──┘        │
  └──── News ◄── inotify on the folder ───────────┘
"""

import sqlite3
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datastore import feed
from datastore.bell import Bell
from datastore.codec import stamped
from datastore.errors import Unavailable
from datastore.record import Key, key_for, record_of
from datastore.resources.value import Resource
from datastore.revisions import History, Stamp
from datastore.sql import reads
from datastore.sql.failures import PATIENCE_S
from datastore.sql.file import Access, prepare
from datastore.sql.journal import Journal, journal_for
from datastore.sql.news import News
from datastore.sql.reader import Reader
from datastore.sql.writer import Writer
from datastore.sql.writes import Verb, Write, indexed_text
from datastore.store import Batch, Listing, Revision, Where

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Status:
    """What a person may want to know of an open file."""

    path: Path
    library: str
    journal: Journal
    news: str
    """Where word of other processes' commits comes from: inotify, or a timer."""


class SQLiteStore:
    """Use `open`. For one event loop."""

    def __init__(self, access: Access, *, keep: int, bookmark_s: float) -> None:
        self._access = access
        self._bookmark_s = bookmark_s
        self._bell = Bell()
        self._reader = Reader(access)
        self._news = News(access.path, self._look, self._bell)
        self._writer = Writer(access, keep, self._news.announce)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        keep: int = feed.KEEP,
        bookmark_s: float = feed.BOOKMARK_S,
        patience_s: float = PATIENCE_S,
        journal: Journal | None = None,
        connection: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> "SQLiteStore":
        """Open the file at an absolute `path`, making it and its folder where they are missing.

        Raises:
            Unavailable: that can't be done, or the file is another program's or a newer version's.
        """
        chosen = journal or journal_for(sqlite3.sqlite_version_info)
        access = Access(path, chosen, patience_s, connection)
        store = cls(access, keep=keep, bookmark_s=bookmark_s)
        try:
            await store._reader.run(lambda: prepare(access))
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def status(self) -> Status:
        """The file, the library, the journal mode and why it is that one."""
        return Status(self._access.path, sqlite3.sqlite_version, self._access.journal, self._news.source)

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        self._check_open()
        key = Key(kind.KIND.full_name, namespace, name)
        return await self._reader.read(lambda found: reads.get(found, key), lambda got: got.only(kind, key))

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        self._check_open()
        full_name = kind.KIND.full_name
        return await self._reader.read(
            lambda found: reads.list_all(found, full_name, where), lambda got: got.listing(kind)
        )

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""

        async def read(position: Revision) -> Batch[R]:
            self._check_open()
            self._news.start()
            return await self._reader.read(
                lambda found: reads.since(found, kind, position, where), lambda got: got.batch(kind)
            )

        return feed.follow(kind.KIND.full_name, start, read, self._bell, self._bookmark_s)

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._put(Verb.CREATE, resource)

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._put(Verb.UPDATE, resource)

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        self._check_open()
        await self._writer.write(Write(Verb.DELETE, key_for(resource), resource.key, resource.revision))

    async def close(self) -> None:
        """See `Store.close`."""
        if self._bell.is_closed():
            return
        self._bell.close()
        await self._news.close()
        await self._writer.close()
        await self._reader.close()

    async def _put(self, verb: Verb, resource: R) -> R:
        self._check_open()
        record = record_of(resource)
        write = Write(verb, record.key, resource.key, resource.revision, indexed_text(record.indexed), record.body)
        stamp: Stamp = await self._writer.write(write)
        return stamped(resource, stamp.text)

    async def _look(self, after: int) -> tuple[History, frozenset[str]]:
        return await self._reader.read(lambda found: reads.changed_kinds(found, after), lambda got: got)

    def _check_open(self) -> None:
        if self._bell.is_closed():
            raise Unavailable("the datastore is closed")
