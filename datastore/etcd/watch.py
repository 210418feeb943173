"""A watch: etcd's stream of one kind's events, made into batches that a consumer can resume from.

    position    everything of the kind up to here was given out or lies in the fold; a stream goes on after it
    target      what must have arrived before anything is given out
    horizon     up to here there is nothing but what is before target

    begin ─► aim ─► stream from position+1 ─► events ─► fold ─► position ≥ target? ─► batch ─► consumer
              ▲                                                                                  │
              └── consumer came back to find events waiting · bookmark is due · stream was lost ◄┘

etcd doesn't say when a watch has caught up: its progress notes come every ten minutes, or on request, which older
servers answer with a revision whose events are still on their way (before 3.4.25 and 3.5.8). So every write also puts
its kind's `newest` key, and to `aim` is to read that: its mod_revision is the target, and the revision of the answer is
the horizon. A watch that has got to its target has got everything up to the horizon, from which it may be resumed. In
the same transaction the key is read at `position`: if that is compacted, the watch has fallen behind.

The stream is read one response ahead and no further; gRPC's and etcd's flow control hold the rest. It is read by a task
of its own, since to cancel a read is to end the stream.

What etcd owes but doesn't deliver is noticed too: 3.4.23 forgets to tell a slow watch that it was compacted (etcd
17610), and a deletion at the very revision that is compacted is lost on streams that were to begin with it (etcd 19179,
before 3.4.36 and 3.5.18). The first shows as a target that isn't reached in time. For the second, compaction is looked
at once more after catching up.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from datastore.errors import Compacted, Forbidden, Unavailable
from datastore.etcd import failures, txns
from datastore.etcd.connection import Connection
from datastore.etcd.endpoint import Stream
from datastore.etcd.etcd_pb2 import Event, TxnResponse, WatchCreateRequest, WatchResponse
from datastore.etcd.failures import Failure, RevisionAhead, RevisionGone
from datastore.etcd.fold import Fold
from datastore.etcd.identity import UNKNOWN, Identity
from datastore.etcd.keys import Keys
from datastore.etcd.reader import Reader
from datastore.record import Key
from datastore.resources.value import Resource
from datastore.store import Batch, Revision, Where

R = TypeVar("R", bound=Resource)

_LOSSES = 3
"""Streams that may be lost in a row, without an event from any of them, before the consumer is told."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a watch reads from."""

    connection: Connection
    keys: Keys
    identity: Identity
    reader: Reader
    own: Callable[[str], int]
    """The number of this process's last write of a kind."""
    bookmark_s: float
    stuck_s: float
    """How long what is known to be there may take to arrive."""


class Watch(Generic[R]):
    """One watch of `kind`, after `start`; `batches` is what its consumer reads."""

    def __init__(self, source: Source, kind: type[R], start: Revision, where: Where | None) -> None:
        self._source = source
        self._kind = kind
        self._start = start
        self._where = where
        self._newest = source.keys.newest(kind.KIND.full_name)
        self._bookmark_at = 0.0
        self._origin = UNKNOWN
        self._fold = self._folding(())
        self._position = self._target = self._horizon = 0
        self._delivered = 0
        """The newest event of the present stream: 3.4.23 sends some twice."""
        self._unsure_since: int | None = None
        """Where catching up began, if that isn't looked at again yet."""
        self._stream: Stream | None = None
        self._reading: asyncio.Task[WatchResponse | None] | None = None
        self._fragments: list[Event] = []
        self._losses = 0

    async def batches(self) -> AsyncGenerator[Batch[R], None]:
        """See `store.Reader.watch`."""
        closed = self._source.connection.closed
        try:
            await self._begin()
            while batch := await self._next():
                self._bookmark_at = _now() + self._source.bookmark_s
                self._read_ahead()
                yield batch
        except Unavailable:
            if not closed.done():
                raise
        finally:
            self._let_go()

    async def _begin(self) -> None:
        """Find out where the watch begins, and what is in `where` there.

        Raises:
            Compacted: nobody knows that any more.
        """
        source = self._source
        self._bookmark_at = _now() + source.bookmark_s
        if source.identity.origin.number(self._start) is None:
            await source.reader.read(txns.get(self._newest))
        self._origin = source.identity.origin
        position = self._origin.number(self._start)
        if position is None:
            raise Compacted(self._kind.KIND.name, self._start)
        self._position = position
        await self._aim()
        if self._where is not None:
            self._fold = self._folding(await self._members())

    def _folding(self, members: Iterable[Key]) -> Fold[R]:
        source, kind = self._source, self._kind
        return Fold(source.keys, kind, self._where, members, lambda kv: source.reader.resource(kind, kv))

    async def _members(self) -> list[Key]:
        if self._where is None:
            return []
        try:
            return (await self._source.reader.members(self._kind, self._where, self._position))[1]
        except (RevisionGone, RevisionAhead):
            raise self._compacted() from None

    async def _next(self) -> Batch[R] | None:
        """The next batch; None once the store is closed."""
        if self._is_behind() and await self._look():
            self._target = max(self._target, self._own())
        due = False
        while not self._source.connection.closed.done():
            if self._position >= self._target:
                await self._make_sure()
                self._position = max(self._position, self._horizon)
                changes = self._fold.take()
                if changes or due:
                    return Batch(changes, self._origin.stamp(self._position))
                if _now() >= self._bookmark_at:
                    due = await self._look()
                    continue
            elif self._fold.is_full and (changes := self._fold.take()):
                return Batch(changes, self._origin.stamp(self._position))
            await self._receive()
        return None

    def _is_behind(self) -> bool:
        """Whether more is there than what the consumer asks for now."""
        waiting = self._reading is not None and self._reading.done()
        return waiting or self._own() > max(self._position, self._target)

    def _own(self) -> int:
        return self._source.own(self._kind.KIND.full_name)

    async def _look(self) -> bool:
        """Aim at what the present member has, or give up the stream if it doesn't say."""
        try:
            await self._aim(serializable=True)
        except Unavailable as error:
            self._lose(str(error))
            return False
        return True

    async def _aim(self, *, serializable: bool = False) -> None:
        """Find out how far there is anything to come.

        A serializable read is the member's own, which needn't ask the others. It may be behind them, but a watch that
        is as far as one member is as far as it can be; beginning is another matter.

        Raises:
            Compacted: what came after the position is no longer kept, or the store is another.
        """
        try:
            response = await self._looked(serializable)
        except RevisionGone:
            raise self._compacted() from None
        except RevisionAhead:
            if serializable:
                return
            raise self._compacted() from None
        store, newest, _ = (txns.only(one.response_range) for one in response.responses)
        origin = self._origin
        if store is None or (store.mod_revision, response.header.cluster_id) != (origin.founded, origin.cluster):
            if not serializable:
                raise self._compacted()
            await self._aim()
            return
        self._target = max(self._target, newest.mod_revision if newest else 0)
        self._horizon = max(self._horizon, response.header.revision)

    async def _looked(self, serializable: bool) -> TxnResponse:
        """What is at the store's key and the kind's newest, now, and that the latter can be read at the position."""
        now, then = (
            txns.get(self._newest, keys_only=True, serializable=serializable, revision=revision)
            for revision in (0, self._position)
        )
        if not serializable:
            return (await self._source.reader.read(now, then))[0]
        # Not by the reader, which would take a member that is behind at its word for what store this is.
        store = txns.get(self._source.keys.store, keys_only=True, serializable=True)
        return await self._source.connection.read(txns.reading(store, now, then))

    async def _make_sure(self) -> None:
        """After catching up: raise Compacted if that reached what it caught up with, see above."""
        if self._unsure_since is None:
            return
        try:
            await self._source.reader.read(txns.get(self._newest, keys_only=True, revision=self._unsure_since))
        except (RevisionGone, RevisionAhead):
            raise self._compacted() from None
        self._unsure_since = None

    def _compacted(self) -> Compacted:
        at_start = self._position == self._origin.number(self._start)
        return Compacted(self._kind.KIND.name, self._start if at_start else self._origin.stamp(self._position))

    async def _receive(self) -> None:
        """Take in the stream's next response, unless the bookmark is due first, or the store is closed."""
        if self._stream is None:
            await self._go_on()
        reading = self._read_ahead()
        if reading is None:
            return
        owed = self._position < self._target
        timeout_s = self._source.stuck_s if owed else max(0.0, self._bookmark_at - _now())
        closed = self._source.connection.closed
        await asyncio.wait((reading, closed), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            return
        if not reading.done():
            if owed:
                self._lose("what is in the datastore doesn't arrive")
            return
        self._reading = None
        try:
            response = reading.result()
        except (Failure, asyncio.CancelledError) as error:
            self._lose(str(error))
            return
        if response is None:
            self._lose("the server ended the stream")
        else:
            await self._take_in(response)

    async def _take_in(self, response: WatchResponse) -> None:
        if response.header.cluster_id != self._origin.cluster:
            raise self._compacted()
        if response.canceled:
            await self._cancelled(response)
            return
        self._fragments.extend(response.events)
        if response.fragment or not self._fragments:
            return
        for event in self._fragments:
            if event.kv.mod_revision > self._delivered:
                self._fold.add(event)
        self._delivered = max(self._delivered, self._fragments[-1].kv.mod_revision)
        self._position = max(self._position, self._delivered)
        self._fragments.clear()
        self._losses = 0

    async def _cancelled(self, response: WatchResponse) -> None:
        if response.compact_revision:
            raise self._compacted()
        endpoint = self._stream.endpoint if self._stream else ""
        if failures.is_stale_reason(response.cancel_reason):
            await self._source.connection.renew_token()
        refusal = failures.of_cancelled_watch(response.cancel_reason, endpoint)
        if isinstance(refusal, Forbidden) and not failures.is_stale_reason(response.cancel_reason):
            raise refusal
        self._lose(str(refusal))

    async def _go_on(self) -> None:
        """Begin a stream after the position."""
        if self._losses:
            await self._aim()
        objects = self._source.keys.objects(self._kind.KIND.full_name)
        self._stream = await self._source.connection.stream(
            WatchCreateRequest(
                key=objects.start, range_end=objects.end, start_revision=self._position + 1, fragment=True
            )
        )
        self._delivered = self._position
        if self._target > self._position and self._unsure_since is None:
            self._unsure_since = self._position

    def _read_ahead(self) -> asyncio.Task[WatchResponse | None] | None:
        if self._reading is None and self._stream is not None:
            self._reading = asyncio.get_running_loop().create_task(self._stream.next(), name="tortie-etcd-watch")
            self._reading.add_done_callback(_retrieved)
        return self._reading

    def _lose(self, why: str) -> None:
        """Give up a stream; the next one goes on where it was.

        Raises:
            Unavailable: too many were lost.
        """
        self._losses += 1
        if self._stream:
            self._source.connection.doubt(self._stream)
        self._let_go()
        if self._losses > _LOSSES:
            raise Unavailable(f"the watch of {self._kind.KIND.plural} was lost {self._losses} times: {why}")

    def _let_go(self) -> None:
        if self._reading:
            self._reading.cancel()
        if self._stream:
            self._source.connection.end(self._stream)
        self._stream = self._reading = None
        self._fragments.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _retrieved(reading: asyncio.Task[WatchResponse | None]) -> None:
    # Nobody may be there any more to ask how it ended.
    if not reading.cancelled():
        reading.exception()
