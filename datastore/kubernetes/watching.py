r"""A watch: the API server's stream of events, cut into batches.

    stream    {"type":"ADDED","object":{...}}\n {"type":"MODIFIED",...}\n ... {"type":"BOOKMARK",...}\n
    batch     what has arrived when the consumer asks: the last state of each object, and where to go on
    position  the resourceVersion of the last event; a stream that ends, or breaks, goes on from there

Nothing is read ahead of the consumer but what fits the connection's buffer; one that is too slow is cut off by the
server, and goes on from its position, or is told `Compacted`. An object that came and went within one batch isn't
mentioned; what left a selector arrives as DELETED, as if it were gone.

The API server sends a bookmark about once a minute, and 2 s before a stream's own end: whoever wants them more often
gets short streams. (k8s.io/apiserver/pkg/storage/cacher, cacheWatcher.nextBookmarkTime.) Events can't be told from
bookmarks of what a list at the same time would see, so a first batch may be only a part of the past.
"""

import asyncio
import math
import random
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, TypeVar

import aiohttp
import msgspec

from datastore.errors import Compacted, Invalid, StoreError, Unavailable
from datastore.kubernetes.client import Client, Query, Request
from datastore.kubernetes.failures import Call, Status, refusal
from datastore.kubernetes.stamp import Stamp, version_of
from datastore.kubernetes.wire import Reading, head_of, number_of
from datastore.resources.value import Resource
from datastore.store import Batch, Gone

R = TypeVar("R", bound=Resource)

BOOKMARK_S = 60.0
"""The API server's own rhythm."""
_STREAM_S = (240, 480)
"""How long a stream lasts, at random: so that all agents don't come back to a restarted server for ever together."""
_BOOKMARK_LEAD_S = 3
"""A stream that lasts so long has its bookmark after a second, and two more to deliver it in."""
_SILENCE_S = 150.0
"""Without a bookmark for so long, a connection is taken for dead."""
_TOO_SHORT_S = 1.0
"""A stream that ended sooner without an event isn't opened again at once."""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


@dataclass
class Pending(Generic[R]):
    """Events on their way into one batch."""

    reading: Reading[R]
    position: int
    changes: dict[tuple[str, str], R | Gone] = field(default_factory=dict)
    came: set[tuple[str, str]] = field(default_factory=set)
    """Objects that weren't there when this batch began."""
    has_bookmark: bool = False

    def add(self, line: bytes) -> Status | None:
        """Take an event in; what the server says if it is an error.

        Raises:
            Invalid: it can't be read.
        """
        try:
            event = msgspec.json.decode(line, type=_Event)
        except msgspec.DecodeError as error:
            raise Invalid("", f"the API server's event can't be read: {error}") from error
        if event.type == "ERROR":
            return msgspec.json.decode(event.object, type=Status)
        if event.type in ("BOOKMARK", "DELETED"):
            head = head_of(event.object)
            if event.type == "DELETED":
                self._remove((head.namespace, head.name))
            self.has_bookmark |= event.type == "BOOKMARK"
            self.position = number_of(head.resource_version)
            return None
        resource = self.reading.one(event.object)
        key = resource.namespace, resource.name
        if event.type == "ADDED" and key not in self.changes:
            self.came.add(key)
        self.changes.pop(key, None)
        self.changes[key] = resource
        self.position = version_of(resource.revision)
        return None

    def take(self) -> Batch[R] | None:
        """The batch, if there is any; begins the next one."""
        if not self.changes and not self.has_bookmark:
            return None
        revision = Stamp(self.position, self.reading.identity).text
        batch = Batch(tuple(self.changes.values()), revision)
        self.changes, self.came, self.has_bookmark = {}, set(), False
        return batch

    def _remove(self, key: tuple[str, str]) -> None:
        self.changes.pop(key, None)
        if key in self.came:
            self.came.discard(key)
        else:
            self.changes[key] = Gone(*key)


@dataclass
class Watch(Generic[R]):
    """One watch, from `start` on."""

    client: Client
    reading: Reading[R]
    kind: type[R]
    path: str
    selector: Query
    start: Stamp
    bookmark_s: float

    async def batches(self) -> AsyncGenerator[Batch[R], None]:
        """Batches without end; ends when the client is closed.

        Raises:
            Compacted: history no longer reaches back.
            Invalid: a changed object can't be read.
            Unavailable: no connection, or the server fails.
            Forbidden: these credentials may not.
        """
        pending = Pending(self.reading, self.start.number)
        while not self.client.is_closed():
            began, position = _now(), pending.position
            try:
                async with aclosing(self._stream(pending)) as stream:
                    async for batch in stream:
                        yield batch
            except Unavailable:
                if self.client.is_closed():
                    return
                raise
            if pending.position == position and _now() - began < _TOO_SHORT_S and not self.client.is_closed():
                raise Unavailable(f"watch {self.kind.KIND.name}: the API server ends it at once")

    async def _stream(self, pending: Pending[R]) -> AsyncGenerator[Batch[R], None]:
        async with self._opened(pending.position) as response:
            if response.status != HTTPStatus.OK:
                raise self._refused(response.status, await response.read(), response)
            rest = b""
            while chunk := await self._chunk(response):
                *lines, rest = (rest + chunk).split(b"\n")
                error = None
                for line in lines:
                    error = error or pending.add(line)
                if batch := pending.take():
                    yield batch
                if error:
                    raise self._failed(error)

    async def _chunk(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError):
            # Whether the server can be reached is found out by asking again.
            self.client.outages += 1
            return b""

    def _opened(self, position: int) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        lasts_s = random.uniform(*_STREAM_S)  # noqa: S311  # no secret
        if self.bookmark_s < BOOKMARK_S:
            lasts_s = math.ceil(self.bookmark_s) + _BOOKMARK_LEAD_S
        query = {
            **self.selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(position),
            "timeoutSeconds": str(int(lasts_s)),
        }
        return self.client.stream(Request(self._call, "GET", self.path, query), _SILENCE_S)

    @property
    def _call(self) -> Call:
        return Call("watch", self.kind.KIND.name)

    def _refused(self, code: int, body: bytes, response: aiohttp.ClientResponse) -> StoreError:
        if code == HTTPStatus.GONE:
            return Compacted(self.kind.KIND.name, self.start.text)
        if code == HTTPStatus.NOT_FOUND:
            return absent_kind(self.kind)
        return refusal(self._call, code, body, response.headers)

    def _failed(self, status: Status) -> StoreError:
        if status.code == HTTPStatus.GONE:
            return Compacted(self.kind.KIND.name, self.start.text)
        return Unavailable(f"watch {self.kind.KIND.name}: {status.message or status.reason}")


def absent_kind(kind: type[Resource]) -> Unavailable:
    """The error for a kind that the API server doesn't serve."""
    full_name = kind.KIND.full_name
    return Unavailable(f"the API server has no {full_name}; next: kubectl apply --server-side -k manifests/crds")


def _now() -> float:
    return asyncio.get_running_loop().time()
