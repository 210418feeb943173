"""Reads: linearizable, and each answer of one revision.

    get              one round trip
    list             pages of objects, all at the first one's revision
    list(where)      pages of pointers, then the objects that they lead to, at the same revision

Each begins by reading the store's key, so that a revision is never given in a store's name that is another's by now.
"""

from collections.abc import Callable
from typing import TypeVar

from datastore import codec
from datastore.errors import Invalid, NotFound, Unavailable
from datastore.etcd import txns
from datastore.etcd.connection import Connection
from datastore.etcd.etcd_pb2 import KeyValue, RangeResponse, RequestOp, TxnResponse
from datastore.etcd.failures import RevisionAhead, RevisionGone
from datastore.etcd.identity import Identity
from datastore.etcd.keys import Keys, Range
from datastore.etcd.known import Known, indexed_of
from datastore.record import Key, resource_of, within
from datastore.resources.value import Resource, key_of
from datastore.store import Listing, Where

R = TypeVar("R", bound=Resource)

PAGE = 500
"""Objects in one answer: 2 MB of blocks."""
_POINTERS = 5000
"""Pointers in one answer: half a megabyte of keys."""
_BATCH = 100
"""Objects that are read by their keys in one transaction; etcd takes 128 (--max-txn-ops)."""
_TRIES = 5
"""How often a list begins again because its revision was compacted while it was read."""


class Reader:
    """Reads of one store; notes in `known` the fields of what is likely to be written next."""

    def __init__(self, connection: Connection, keys: Keys, identity: Identity, known: Known) -> None:
        self._connection = connection
        self._keys = keys
        self._identity = identity
        self._known = known

    async def get(self, kind: type[R], name: str, namespace: str) -> R:
        """See `store.Reader.get`."""
        key = Key(kind.KIND.full_name, namespace, name)
        response, found = await self.read(txns.get(self._keys.object(key)))
        kv = txns.only(found)
        if kv is None:
            raise NotFound(key_of(kind, name, namespace), self._identity.origin.stamp(response.header.revision))
        resource = self.resource(kind, kv)
        self._known.note(key, kv.mod_revision, indexed_of(resource))
        return resource

    async def listing(self, kind: type[R], where: Where | None) -> Listing[R]:
        """See `store.Reader.list`."""
        for _ in range(_TRIES):
            try:
                revision, items = await self._listed(kind, where)
            except (RevisionGone, RevisionAhead):
                continue
            # Keys are in the order of their quoted bytes, in which a-b/x comes before a/x.
            items.sort(key=lambda item: (item.namespace, item.name))
            return Listing(tuple(items), self._identity.origin.stamp(revision))
        raise Unavailable(f"{kind.KIND.plural} can't be listed: etcd compacts faster than they are read")

    async def read(self, *ranges: RequestOp) -> tuple[TxnResponse, RangeResponse]:
        """What is there now, in a store that is there: the answer, and what its first range found.

        Raises:
            RevisionGone, RevisionAhead: as `Connection.read`.
            Unavailable, Forbidden: it can't be read.
        """
        request = txns.reading(txns.get(self._keys.store), *ranges)
        response = await self._connection.read(request)
        if not self._identity.is_in(response):
            await self._identity.establish(self._connection)
            response = await self._connection.read(request)
            if not self._identity.is_in(response):
                raise Unavailable("the store is being removed from etcd")
        return response, response.responses[1].response_range

    def resource(self, kind: type[R], kv: KeyValue) -> R:
        """The object that was read.

        Raises:
            Invalid: it is none of `kind`; says which object it is.
        """
        revision = self._identity.origin.stamp(kv.mod_revision)
        try:
            return codec.decode_as(kind, kv.value, revision)
        except Invalid:
            return resource_of(kind, self._keys.key_of_object(kv.key), kv.value, revision)

    async def _listed(self, kind: type[R], where: Where | None) -> tuple[int, list[R]]:
        if where is not None and where.field != "namespace":
            return await self._pointed(kind, where)
        if where is not None and not kind.KIND.namespaced:
            response, _ = await self.read(txns.get(self._keys.store, keys_only=True))
            return response.header.revision, []
        items: list[R] = []
        objects = self._keys.objects(kind.KIND.full_name, where.value if where else None)
        revision = await self._pages(
            objects, lambda page: items.extend(self.resource(kind, kv) for kv in page.kvs), limit=PAGE
        )
        return revision, items

    async def members(self, kind: type[R], where: Where, revision: int = 0) -> tuple[int, list[Key]]:
        """The objects that hold a value, by their pointers, at a revision or now: the revision, and their keys.

        Raises:
            RevisionGone, RevisionAhead: as `Connection.read`.
            Unavailable, Forbidden: they can't be read.
        """
        keys: list[Key] = []
        pointers = self._keys.pointers(kind.KIND.full_name, where.field, where.value)
        found_at = await self._pages(
            pointers,
            lambda page: keys.extend(self._keys.key_of_pointer(kv.key) for kv in page.kvs),
            limit=_POINTERS,
            revision=revision,
            keys_only=True,
        )
        return found_at, keys

    async def _pointed(self, kind: type[R], where: Where) -> tuple[int, list[R]]:
        revision, keys = await self.members(kind, where)
        items: list[R | None] = []
        for first in range(0, len(keys), _BATCH):
            batch = keys[first : first + _BATCH]
            request = txns.reading(*(txns.get(self._keys.object(key), revision=revision) for key in batch))
            response = await self._connection.read(request)
            for key, one in zip(batch, response.responses, strict=True):
                items.extend(self._noted(kind, key, kv, where) for kv in one.response_range.kvs)
        return revision, [item for item in items if item is not None]

    def _noted(self, kind: type[R], key: Key, kv: KeyValue, where: Where) -> R | None:
        resource = self.resource(kind, kv)
        indexed = indexed_of(resource)
        self._known.note(key, kv.mod_revision, indexed)
        # A pointer may be of another version's idea of the field.
        return resource if within(indexed, where) else None

    async def _pages(
        self,
        keys: Range,
        take: Callable[[RangeResponse], None],
        *,
        limit: int,
        revision: int = 0,
        keys_only: bool = False,
    ) -> int:
        """Let `take` have every page of a range, all at `revision`, or at the present one, which is returned."""
        response, page = await self.read(txns.get_range(keys, limit, revision=revision, keys_only=keys_only))
        revision = revision or response.header.revision
        take(page)
        while page.more:
            keys = Range(page.kvs[-1].key + b"\0", keys.end)
            rest = txns.reading(txns.get_range(keys, limit, revision=revision, keys_only=keys_only))
            page = (await self._connection.read(rest)).responses[0].response_range
            take(page)
        return revision
