"""A Store in this process's memory: for tests, and for `policy evaluate` on files.

It keeps encoded objects, not values, so that it loses and keeps exactly what a real one does. Every write is done when
its call is first run, and every call then yields to the loop once, so that callers interleave here as elsewhere.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TypeVar

from datastore import feed
from datastore.bell import Bell
from datastore.codec import stamped
from datastore.errors import AlreadyExists, Conflict, NotFound, Unavailable
from datastore.feed import Change
from datastore.record import Indexed, Key, Record, key_for, record_of, resource_of
from datastore.resources.value import Resource, key_of
from datastore.revisions import History, Stamp, new_identity, number_of
from datastore.store import Batch, Gone, Listing, Revision, Where

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class _Stored:
    record: Record
    number: int


class MemoryStore:
    """For one event loop. `keep` log entries and a `bookmark_s` as in `feed`."""

    def __init__(self, *, keep: int = feed.KEEP, bookmark_s: float = feed.BOOKMARK_S) -> None:
        self._keep = keep
        self._bookmark_s = bookmark_s
        self._history = History(new_identity(), compacted=0, newest=0)
        self._objects: dict[Key, _Stored] = {}
        self._places: dict[tuple[str, Where | None], set[Key]] = {}
        """By kind, and by what its objects can be found by; None: all of them."""
        self._log: list[Change] = []
        self._bell = Bell()

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        self._check_open()
        stored = self._objects.get(Key(kind.KIND.full_name, namespace, name))
        if stored is None:
            raise NotFound(key_of(kind, name, namespace), self._history.revision)
        await asyncio.sleep(0)
        return self._resource(kind, stored)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        self._check_open()
        keys = sorted(self._places.get((kind.KIND.full_name, where), ()))
        listing = Listing(tuple(self._resource(kind, self._objects[key]) for key in keys), self._history.revision)
        await asyncio.sleep(0)
        return listing

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""

        async def read(position: Revision) -> Batch[R]:
            return self._since(kind, position, where)

        return feed.follow(kind.KIND.full_name, start, read, self._bell, self._bookmark_s)

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        self._check_open()
        record = record_of(resource)
        if record.key in self._objects:
            raise AlreadyExists(resource.key)
        return await self._put(resource, record, None)

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        self._check_open()
        record = record_of(resource)
        return await self._put(resource, record, self._compared(resource).record.indexed)

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        self._check_open()
        was = self._compared(resource).record.indexed
        del self._objects[key_for(resource)]
        self._place(key_for(resource), was, None)
        self._append(Change(key_for(resource), was, None))
        await asyncio.sleep(0)

    async def close(self) -> None:
        """See `Store.close`."""
        self._bell.close()

    def _check_open(self) -> None:
        if self._bell.is_closed():
            raise Unavailable("the datastore is closed")

    def _compared(self, resource: Resource) -> _Stored:
        stored = self._objects.get(key_for(resource))
        if stored is None:
            raise NotFound(resource.key, self._history.revision)
        if stored.number != number_of(resource.revision, self._history.identity):
            raise Conflict(resource.key, resource.revision)
        return stored

    async def _put(self, resource: R, record: Record, was: Indexed | None) -> R:
        self._append(Change(record.key, was, record.indexed))
        self._objects[record.key] = _Stored(record, self._history.newest)
        self._place(record.key, was, record.indexed)
        revision = self._history.revision
        await asyncio.sleep(0)
        return stamped(resource, revision)

    def _place(self, key: Key, was: Indexed | None, now: Indexed | None) -> None:
        """Find an object by what it is in now, and no longer by what it was in; None: it wasn't there, or isn't."""
        before, after = _wheres(was), _wheres(now)
        for where in before - after:
            self._places[key.kind, where].discard(key)
        for where in after - before:
            self._places.setdefault((key.kind, where), set()).add(key)

    def _append(self, change: Change) -> None:
        old = self._history
        grown = History(old.identity, old.compacted, old.newest + 1)
        self._history = History(old.identity, grown.compact_to(self._keep), grown.newest)
        self._log.append(change)
        del self._log[: self._history.compacted - old.compacted]
        self._bell.ring((change.key.kind,))

    def _since(self, kind: type[R], start: Revision, where: Where | None) -> Batch[R]:
        position = self._history.position(start, kind.KIND.name)
        entries = self._log[position - self._history.compacted :]
        difference = feed.merge((entry for entry in entries if entry.key.kind == kind.KIND.full_name), where)
        present = tuple(self._resource(kind, self._objects[key]) for key in difference.present)
        gone = tuple(Gone(key.namespace, key.name) for key in difference.gone)
        return Batch((*present, *gone), self._history.revision)

    def _resource(self, kind: type[R], stored: _Stored) -> R:
        revision = Stamp(stored.number, self._history.identity).text
        return resource_of(kind, stored.record.key, stored.record.body, revision)


def _wheres(indexed: Indexed | None) -> set[Where | None]:
    return {None, *(Where(field, value) for field, value in indexed)} if indexed is not None else set()
