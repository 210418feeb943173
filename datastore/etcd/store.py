"""The Store in an etcd cluster.

┌─► Writer ─► Swap ───────┐
EtcdStore ──┼─► Reader ─► ranges ─────┼─► Connection ─► the present member's channel
└─► Watch  ─► Stream ─────┘
Keys: where things lie     Identity: what store it is     Known: indexed fields of what was used last
"""

from collections.abc import AsyncGenerator
from typing import TypeVar

from datastore import feed
from datastore.etcd import txns
from datastore.etcd.address import EtcdAddress
from datastore.etcd.connection import Connection
from datastore.etcd.identity import Identity
from datastore.etcd.keys import Keys
from datastore.etcd.known import Known
from datastore.etcd.reader import Reader
from datastore.etcd.watch import Source, Watch
from datastore.etcd.writer import Writer
from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Revision, Where

R = TypeVar("R", bound=Resource)


class EtcdStore:
    """Use `open`. For one event loop."""

    def __init__(self, address: EtcdAddress, *, bookmark_s: float) -> None:
        """Raises Unavailable: a file of the address can't be read."""
        keys, known = Keys(address.prefix), Known()
        self._identity = Identity(keys.store, known)
        self._connection = Connection(address, txns.reading(txns.get(keys.store)), self._identity.is_in)
        self._reader = Reader(self._connection, keys, self._identity, known)
        self._writer = Writer(self._connection, keys, self._identity, self._reader, known)
        self._source = Source(
            self._connection, keys, self._identity, self._reader, self._writer.own, bookmark_s, address.timeout_s
        )

    @classmethod
    async def open(cls, address: EtcdAddress, *, bookmark_s: float = feed.BOOKMARK_S) -> "EtcdStore":
        """The store at `address`, made where there is none.

        Raises:
            Unavailable: no member answers, a file can't be read, or what lies there is a newer version's.
            Forbidden: etcd refuses the user.
        """
        store = cls(address, bookmark_s=bookmark_s)
        try:
            await store._connection.open()
            await store._identity.establish(store._connection)
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        return await self._reader.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        return await self._reader.listing(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""
        return Watch(self._source, kind, start, where).batches()

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._writer.create(resource)

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._writer.update(resource)

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        await self._writer.delete(resource)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._connection.close()
