"""The Store contract on the Kubernetes API.

    get      GET; a 404 has no resourceVersion, so a list of that one name follows, which has
    list     pages of 500; a page whose list has expired (410) begins the list anew
    create   POST
    update   PUT with uid and resourceVersion; and a second PUT where the first doesn't do all of it:
               to /status   where the status is another than stored (the first PUT ignores it)
               with a bump  where the first changed nothing, which Kubernetes answers with the old resourceVersion
    delete   DELETE with uid and resourceVersion as preconditions

A write is sent by a task of its own, so that a cancelled caller doesn't cancel it, and never sent again.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from datastore.errors import Compacted, Conflict, Forbidden, Invalid, NotFound, StoreError, Unavailable, Unknown
from datastore.kubernetes import paths, wire
from datastore.kubernetes.access import Access
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.client import Answer, Client, Request
from datastore.kubernetes.cluster import Cluster
from datastore.kubernetes.failures import Call, refusal, status_of
from datastore.kubernetes.stamp import Stamp, identity_of, stamp_of
from datastore.kubernetes.watching import BOOKMARK_S, Watch, absent_kind
from datastore.kubernetes.wire import Reading
from datastore.resources.value import Resource, key_of
from datastore.store import Batch, Listing, Revision, Where

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

PAGE = 500
"""Objects of a page, as kubectl asks: 2 MB of Pods."""
_RESTARTS = 5
"""How often a list may expire before its last page; then the server keeps too little history for it."""
_LAST_WRITES_S = 5.0
"""How long closing waits for writes that are on their way."""
_HOME = "/api/v1/namespaces/kube-system"
_IDENTITY = Call("get", "Namespace kube-system")
_ABSENT_LEASE = "UID in object meta: "
"""Ends the 409 for a PUT with a uid where nothing is."""


class KubernetesStore:
    """For one event loop; made by `open`."""

    def __init__(self, client: Client, bookmark_s: float) -> None:
        self._client = client
        self._bookmark_s = bookmark_s
        self._identity = ""
        self._outages = -1
        self._readings: dict[type[Resource], Reading[Any]] = {}
        self._newest: dict[type[Resource], int] = {}
        self._writes: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, address: KubernetesAddress, *, bookmark_s: float = BOOKMARK_S) -> "KubernetesStore":
        """The store at `address`, once its API server has answered.

        Raises:
            Invalid: the configuration can't be read.
            Unavailable: there is no configuration, or no answer.
            Forbidden: these credentials may not.
        """
        store = cls.unopened(address, bookmark_s=bookmark_s)
        try:
            await store._know_cluster()
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    def unopened(cls, address: KubernetesAddress, *, bookmark_s: float = BOOKMARK_S) -> "KubernetesStore":
        """The store at `address`, whether its API server answers yet or not: each call finds that out for itself."""
        return cls(Client(Access(address)), bookmark_s)

    def cluster(self, component: str, host: str = "") -> Cluster:
        """What only Kubernetes has, on this store's connections, for a program `component` on `host`."""
        return Cluster(self._client, component, host)

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        call = Call("get", key_of(kind, name, namespace))
        path = paths.item(kind, name, namespace)
        await self._know_cluster()
        answer = await self._client.ask(Request(call, "GET", path))
        if answer.code == HTTPStatus.NOT_FOUND:
            return await self._looked_for(kind, name, namespace)
        return self._read(kind, _good(call, answer).body)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        await self._know_cluster()
        path, selector = paths.selection(kind, where)
        for _ in range(_RESTARTS):
            listing = await self._list(kind, path, {**selector, "limit": str(PAGE)})
            if listing:
                return listing
        raise Unavailable(f"list {kind.KIND.name}: its pages expired {_RESTARTS} times before the last one was read")

    async def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""
        if self._client.is_closed():
            return
        await self._know_cluster()
        stamp = stamp_of(start, self._identity)
        if stamp is None or (stamp.number > self._newest.get(kind, 0) and await self._is_beyond(kind, stamp)):
            raise Compacted(kind.KIND.name, start)
        path, selector = paths.selection(kind, where)
        watch = Watch(self._client, self._reading(kind), kind, path, selector, stamp, self._bookmark_s)
        async with aclosing(watch.batches()) as batches:
            async for batch in batches:
                self._saw(kind, batch.revision)
                yield batch

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        self._check_open()
        wire.check_writable(resource)
        return await self._written(self._create(resource, wire.written(resource, None)))

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        self._check_open()
        wire.check_writable(resource)
        return await self._written(self._update(resource))

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        self._check_open()
        await self._written(self._delete(resource))

    async def close(self) -> None:
        """See `Store.close`."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=_LAST_WRITES_S)
        await self._client.close()

    def _check_open(self) -> None:
        if self._client.is_closed():
            raise Unavailable("the datastore is closed")

    async def _know_cluster(self) -> None:
        """Ask which cluster this is: at first, and after each outage."""
        outages = self._client.outages
        if outages == self._outages:
            return
        try:
            answer = _good(_IDENTITY, await self._client.ask(Request(_IDENTITY, "GET", _HOME)))
        except Forbidden as error:
            if not self._identity:
                raise
            # A server that has just started refuses everybody until it has read its roles.
            raise Unavailable(f"the API server, back from an outage, refuses this program: {error}") from error
        identity = identity_of(wire.head_of(answer.body).uid)
        if identity != self._identity:
            self._identity = identity
            self._readings.clear()
            self._newest.clear()
        self._outages = outages

    def _stamp(self, resource: Resource, revision: str) -> Stamp:
        """What `revision` of an object names.

        Raises:
            Conflict: nothing that this cluster ever gave an object.
        """
        stamp = stamp_of(revision, self._identity)
        if stamp is None or not stamp.uid:
            raise Conflict(resource.key, resource.revision)
        return stamp

    def _reading(self, kind: type[R]) -> Reading[R]:
        found = self._readings.get(kind)
        if found is None:
            found = self._readings[kind] = Reading(kind, self._identity)
        return found

    def _read(self, kind: type[R], body: bytes) -> R:
        resource = self._reading(kind).one(body)
        self._saw(kind, resource.revision)
        return resource

    def _saw(self, kind: type[Resource], revision: str) -> None:
        stamp = stamp_of(revision, self._identity)
        if stamp and stamp.number > self._newest.get(kind, 0):
            self._newest[kind] = stamp.number

    async def _is_beyond(self, kind: type[Resource], stamp: Stamp) -> bool:
        """Whether the kind hasn't got so far: an etcd that was restored counts from an older revision."""
        listing = await self._list(kind, paths.collection(kind), {"limit": "1"}, pages=1)
        return listing is None or stamp.number > self._newest[kind]

    async def _list(self, kind: type[R], path: str, query: dict[str, str], pages: int = 0) -> Listing[R] | None:
        """All pages, or the first `pages`; None if they expired."""
        call, reading, items = Call("list", kind.KIND.name), self._reading(kind), list[R]()
        read = 0
        while True:
            answer = await self._client.ask(Request(call, "GET", path, query))
            if answer.code == HTTPStatus.GONE:
                return None
            if answer.code == HTTPStatus.NOT_FOUND:
                raise absent_kind(kind)
            page = reading.page(_good(call, answer).body)
            items += page.items
            read += 1
            if not page.token or read == pages:
                revision = Stamp(page.number, self._identity).text
                self._saw(kind, revision)
                items.sort(key=lambda item: (item.metadata.namespace, item.metadata.name))
                return Listing(tuple(items), revision)
            query = {**query, "continue": page.token}

    async def _looked_for(self, kind: type[R], name: str, namespace: str) -> R:
        """The object if it has come meanwhile.

        Raises:
            NotFound: it hasn't, with the revision at which that was so.
        """
        query = {"fieldSelector": f"metadata.name={name}", "limit": "1"}
        listing = await self._list(kind, paths.collection(kind, namespace), query)
        if listing is None:
            raise Unavailable(f"list {kind.KIND.name}: expired on its first page")
        if not listing.items:
            raise NotFound(key_of(kind, name, namespace), listing.revision)
        return listing.items[0]

    async def _written(self, write: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._wrote)
        return await asyncio.shield(task)

    def _wrote(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # heard, though its caller may be gone

    async def _create(self, resource: R, body: bytes) -> R:
        await self._know_cluster()
        kind, call = type(resource), Call("create", resource.key, writes=True)
        answer = await self._client.ask(Request(call, "POST", paths.collection(kind, resource.namespace), body=body))
        if answer.code == HTTPStatus.NOT_FOUND:
            if status_of(answer.body).details.kind == "namespaces":
                raise Invalid("metadata.namespace", f"there is no namespace {resource.namespace!r}")
            raise absent_kind(kind)
        made = self._read(kind, _good(call, answer).body)
        if _status(made) == _status(resource):
            return made
        return await self._put_status(resource, made)

    async def _update(self, resource: R) -> R:
        await self._know_cluster()
        stamp = stamp_of(resource.revision, self._identity)
        if stamp is None or not stamp.uid:
            raise await self._mismatch(resource)
        found = await self._put(resource, stamp)
        if _status(found) != _status(resource):
            found = await self._put_status(resource, found, stamp)
        if _is_at(found, stamp):
            found = await self._put(resource, stamp, bump=secrets.token_hex(8))
        return found

    async def _put_status(self, resource: R, found: R, before: Stamp | None = None) -> R:
        """Write the status, which the write that gave `found` left alone."""
        try:
            stamp = self._stamp(resource, found.revision)
            return await self._put(resource, stamp, "/status")
        except (Unavailable, Conflict, NotFound) as error:
            if stamp == before:
                raise
            raise Unknown(f"{resource.key} is written, and its status isn't: {error}") from error

    async def _put(self, resource: R, stamp: Stamp, below: str = "", bump: str = "") -> R:
        kind = type(resource)
        call = Call("update", resource.key, writes=True, revision=resource.revision)
        path = paths.item(kind, resource.name, resource.namespace)
        body = await self._body(resource, stamp, bump)
        answer = await self._client.ask(Request(call, "PUT", path + below, body=body))
        if answer.code == HTTPStatus.NOT_FOUND or _says_absent(answer):
            raise await self._mismatch(resource)
        return self._read(kind, _good(call, answer).body)

    async def _body(self, resource: R, stamp: Stamp, bump: str) -> bytes:
        kind = type(resource)
        if not wire.is_partly_read(kind):
            return wire.written(resource, stamp, bump)
        call = Call("get", resource.key, revision=resource.revision)
        answer = await self._client.ask(Request(call, "GET", paths.item(kind, resource.name, resource.namespace)))
        if answer.code == HTTPStatus.NOT_FOUND:
            raise await self._mismatch(resource)
        found = self._read(kind, _good(call, answer).body)
        if not _is_at(found, stamp):
            raise Conflict(resource.key, resource.revision)
        return wire.merged(resource, wire.document_of(answer.body), self._reading(kind), bump)

    async def _delete(self, resource: Resource) -> None:
        await self._know_cluster()
        stamp = stamp_of(resource.revision, self._identity)
        if stamp is None or not stamp.uid:
            raise await self._mismatch(resource)
        call = Call("delete", resource.key, writes=True, revision=resource.revision)
        preconditions = {"uid": stamp.uid, "resourceVersion": str(stamp.number)}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        path = paths.item(type(resource), resource.name, resource.namespace)
        answer = await self._client.ask(Request(call, "DELETE", path, body=msgspec.json.encode(options)))
        if answer.code == HTTPStatus.NOT_FOUND:
            raise await self._mismatch(resource)
        _good(call, answer)

    async def _mismatch(self, resource: Resource) -> StoreError:
        """Why nothing can be written at the resource's revision: `NotFound`, or `Conflict` with what is there."""
        try:
            await self.get(type(resource), resource.name, resource.namespace)
        except NotFound as error:
            return error
        except Invalid:
            pass  # it is there, whatever it is
        return Conflict(resource.key, resource.revision)


def _good(call: Call, answer: Answer) -> Answer:
    if not answer.is_ok:
        raise refusal(call, answer.code, answer.body, answer.headers)
    return answer


def _says_absent(answer: Answer) -> bool:
    return answer.code == HTTPStatus.CONFLICT and status_of(answer.body).message.endswith(_ABSENT_LEASE)


def _status(resource: Resource) -> object:
    return getattr(resource, "status", None)


def _is_at(resource: Resource, stamp: Stamp) -> bool:
    return resource.revision == stamp.text
