"""The Store in a PostgreSQL database, which any number of processes may share.

┌── Writer ── session ──┐
loop ─┼── Reader ── sessions ─┼── Connector ── hosts ── tables, NOTIFY
└── News ──── session ──┘                             │
└── Bell <──────────────────────────────────────┘
"""

import logging
from collections.abc import AsyncGenerator
from typing import TypeVar

from datastore import feed
from datastore.bell import Bell
from datastore.codec import stamped
from datastore.errors import Unavailable
from datastore.postgresql import reads
from datastore.postgresql.address import PostgreSQLAddress
from datastore.postgresql.connector import Connector
from datastore.postgresql.founding import found
from datastore.postgresql.news import TIMER_S, News
from datastore.postgresql.reader import Reader
from datastore.postgresql.schema import statements
from datastore.postgresql.writer import Writer
from datastore.postgresql.writes import Write, fields_text
from datastore.record import Key, key_for, record_of
from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Revision, Where

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)


class PostgreSQLStore:
    """Use `open`. For one event loop."""

    def __init__(self, address: PostgreSQLAddress, *, keep: int, bookmark_s: float, timer_s: float) -> None:
        self._bookmark_s = bookmark_s
        self._statements = statements(address.schema)
        self._connector = Connector(address)
        self._bell = Bell()
        self._reader = Reader(self._connector, address.pool - 1, address.timeout_s)
        self._writer = Writer(self._connector, self._statements, keep, address.timeout_s)
        self._news = News(self._connector, self._statements, self._bell, timer_s)

    @classmethod
    async def open(
        cls,
        address: PostgreSQLAddress,
        *,
        keep: int = feed.KEEP,
        bookmark_s: float = feed.BOOKMARK_S,
        timer_s: float = TIMER_S,
    ) -> "PostgreSQLStore":
        """Open the store at `address`, making its tables where they are missing.

        Raises:
            Unavailable: it can't be reached, or takes no writes, or is another program's or another version's.
            Forbidden: these credentials may not.
        """
        store = cls(address, keep=keep, bookmark_s=bookmark_s, timer_s=timer_s)
        session = await store._connector.connect()
        try:
            await found(session, store._statements, address.schema)
        except BaseException:
            session.terminate()
            raise
        if not session.is_durable:
            log.warning("%s has fsync off: what it acknowledges is lost when its machine stops", session.where)
        store._reader.keep(session)
        return store

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        self._check_open()
        key = Key(kind.KIND.full_name, namespace, name)
        return (await reads.get(self._reader, self._statements, key)).only(kind, key)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        self._check_open()
        return (await reads.list_all(self._reader, self._statements, kind.KIND.full_name, where)).listing(kind)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""

        async def read(position: Revision) -> Batch[R]:
            self._check_open()
            self._news.start()
            return (await reads.since(self._reader, self._statements, kind, position, where)).batch(kind)

        return feed.follow(kind.KIND.full_name, start, read, self._bell, self._bookmark_s)

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._put("create", resource)

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._put("update", resource)

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        self._check_open()
        await self._write(Write("delete", key_for(resource), resource.key, resource.revision))

    async def close(self) -> None:
        """See `Store.close`."""
        if self._bell.is_closed():
            return
        self._bell.close()
        await self._news.close()
        await self._writer.close()
        await self._reader.close()

    async def _put(self, verb: str, resource: R) -> R:
        self._check_open()
        record = record_of(resource)
        fields = fields_text(record.indexed)
        write = Write(verb, record.key, resource.key, resource.revision, fields, record.body)
        return stamped(resource, await self._write(write))

    async def _write(self, write: Write) -> Revision:
        revision = (await self._writer.write(write)).text
        if not self._news.is_listening:
            self._bell.ring((write.key.kind,))
        return revision

    def _check_open(self) -> None:
        if self._bell.is_closed():
            raise Unavailable("the datastore is closed")
