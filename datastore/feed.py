"""A watch as a position in a log of changes: what every driver that keeps a log shares.

    log       5: web created   6: db moves to node b   7: web deleted   8: api created        newest = 8
    position  ^ after 5
    batch     merge(6..8) -> states of db and api, web gone; position = 8

A watcher reads from its position to the newest revision in one transaction, so what it gets is the difference between
two snapshots: for each object its last state, or that it is gone, and nothing of what lay between. It holds no queue;
how far it may fall behind is bounded by the log, past which it is told `Compacted`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from datastore.bell import Bell
from datastore.errors import Unavailable
from datastore.record import Indexed, Key, within
from datastore.resources.value import Resource
from datastore.store import Batch, Revision, Where

R = TypeVar("R", bound=Resource)

BOOKMARK_S = 10.0
"""Seconds after which a quiet watch yields a bookmark, so that its consumer can resume from a recent revision and knows
that the store is still read."""
KEEP = 10_000
"""Log entries that are kept: at 100 pod starts a second, each two writes, 50 seconds of history. An entry is 200 bytes
without a body, so a watcher that comes back reads at most 2 MB of log."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log: the fields an object was found by before and after; None where it wasn't there."""

    key: Key
    was: Indexed | None
    now: Indexed | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What separates two snapshots, for one `where`."""

    present: tuple[Key, ...]
    """Changed, and in `where` now: report their states."""
    gone: tuple[Key, ...]
    """In `where` at the start, and not now."""


def merge(changes: Iterable[Change], where: Where | None) -> Difference:
    """The difference that `changes`, in the order of their revisions, make together."""
    first: dict[Key, Indexed | None] = {}
    last: dict[Key, Indexed | None] = {}
    for change in changes:
        first.setdefault(change.key, change.was)
        last[change.key] = change.now
    present = tuple(key for key, now in last.items() if within(now, where))
    gone = tuple(key for key, now in last.items() if not within(now, where) and within(first[key], where))
    return Difference(present, gone)


async def follow(
    kind: str, start: Revision, read: Callable[[Revision], Awaitable[Batch[R]]], bell: Bell, bookmark_s: float
) -> AsyncGenerator[Batch[R], None]:
    """Batches of `kind` from `start` on, until the bell is closed; `read` gives the difference from a revision to now.

    Raises:
        Compacted: as `read` does.
        Unavailable: as `read` does.
    """
    clock = asyncio.get_running_loop().time
    position, bookmark_at = start, clock() + bookmark_s
    while not bell.is_closed():
        rings = bell.rings(kind)
        try:
            batch = await read(position)
        except Unavailable:
            if bell.is_closed():
                return
            raise
        position = batch.revision
        if batch.changes or clock() >= bookmark_at:
            yield batch
            bookmark_at = clock() + bookmark_s
        await bell.wait(kind, rings, bookmark_at - clock())
