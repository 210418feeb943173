"""Writes: each one transaction, one round trip.

The pointers that an update takes away follow from what the object was before; a revision that this process has neither
read nor written is read first, which costs a second round trip.
"""

from typing import TypeVar

from datastore.codec import stamped
from datastore.errors import AlreadyExists, Conflict, NotFound, StoreError, Unavailable, Unknown
from datastore.etcd import txns
from datastore.etcd.connection import Connection
from datastore.etcd.etcd_pb2 import TxnResponse
from datastore.etcd.failures import NoSpace
from datastore.etcd.identity import Identity
from datastore.etcd.keys import Keys
from datastore.etcd.known import Known, indexed_of
from datastore.etcd.reader import Reader
from datastore.etcd.txns import Swap, Swaps
from datastore.record import Indexed, Key, Record, key_for, record_of
from datastore.resources.value import Resource

R = TypeVar("R", bound=Resource)

_NOTHING: Indexed = frozenset()


class Writer:
    """Writes of one store."""

    def __init__(self, connection: Connection, keys: Keys, identity: Identity, reader: Reader, known: Known) -> None:
        self._connection = connection
        self._keys = keys
        self._identity = identity
        self._reader = reader
        self._known = known
        self._swaps = Swaps(keys)
        self._newest: dict[str, int] = {}

    def own(self, kind: str) -> int:
        """The number of this process's last write of a kind (its full name)."""
        return self._newest.get(kind, 0)

    async def create(self, resource: R) -> R:
        """See `store.Writer.create`."""
        record = record_of(resource)
        return await self._put(resource, record, 0, _NOTHING)

    async def update(self, resource: R) -> R:
        """See `store.Writer.update`."""
        record = record_of(resource)
        number = self._identity.origin.number(resource.revision)
        was = self._fields_at(resource, record.key, number)
        if number is None or was is None:
            number, was = await self._looked_at(resource, record.key)
        return await self._put(resource, record, number, was)

    async def delete(self, resource: Resource) -> None:
        """See `store.Writer.delete`."""
        key = key_for(resource)
        number = self._identity.origin.number(resource.revision)
        was = self._fields_at(resource, key, number)
        if number is None or was is None:
            number, was = await self._looked_at(resource, key)
        await self._swap(resource, Swap(key, number, None, was))
        self._known.forget(key)

    async def _put(self, resource: R, record: Record, number: int, was: Indexed) -> R:
        new = await self._swap(resource, Swap(record.key, number, record.body, was, record.indexed))
        self._known.note(record.key, new, record.indexed)
        return stamped(resource, self._identity.origin.stamp(new))

    def _fields_at(self, resource: Resource, key: Key, number: int | None) -> Indexed | None:
        """The fields that the object had at its revision; None if that isn't known without reading."""
        if number is None:
            return None
        if type(resource).indexed is Resource.indexed:
            return indexed_of(resource)  # none but its namespace, which never changes
        return self._known.at(key, number)

    async def _looked_at(self, resource: Resource, key: Key) -> tuple[int, Indexed]:
        """The number of the resource's revision, and its object's fields, read if that is what the object is at.

        Raises:
            NotFound, Conflict: it isn't.
        """
        response, found = await self._reader.read(txns.get(self._keys.object(key)))
        kv = txns.only(found)
        origin = self._identity.origin
        if kv is None:
            raise NotFound(resource.key, origin.stamp(response.header.revision))
        if origin.number(resource.revision) != kv.mod_revision:
            raise Conflict(resource.key, resource.revision)
        return kv.mod_revision, indexed_of(self._reader.resource(type(resource), kv))

    async def _swap(self, resource: Resource, swap: Swap) -> int:
        """The revision that the swap made."""
        request = self._swaps.request(swap, self._identity.origin.founded)
        try:
            response = await self._connection.write(request)
        except NoSpace as refusal:
            raise await self._after(refusal, swap) from refusal
        if not response.succeeded:
            raise await self._refused(resource, swap, response)
        number = response.header.revision
        self._newest[swap.key.kind] = max(number, self.own(swap.key.kind))
        return number

    async def _refused(self, resource: Resource, swap: Swap, response: TxnResponse) -> StoreError:
        """Why a swap wasn't done."""
        if not self._identity.is_in(response):
            await self._identity.establish(self._connection)
        kv = txns.only(response.responses[1].response_range)
        if kv is None and swap.number:
            return NotFound(resource.key, self._identity.origin.stamp(response.header.revision))
        if kv is not None:
            return Conflict(resource.key, resource.revision) if swap.number else AlreadyExists(resource.key)
        return Unavailable(f"{resource.key} wasn't created: the store was emptied and made anew in the meantime")

    async def _after(self, refusal: NoSpace, swap: Swap) -> StoreError:
        """What became of a swap that was refused for want of space; it was answered, so it won't be applied later."""
        try:
            _, found = await self._reader.read(txns.get(self._keys.object(swap.key), keys_only=True))
        except StoreError as error:
            return Unknown(f"{refusal} Whether this write is there can't be read: {error}")
        kv = txns.only(found)
        unchanged = (kv.mod_revision if kv else 0) == swap.number
        return Unavailable(str(refusal)) if unchanged else Unknown(str(refusal))
