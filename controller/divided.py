"""A datastore of which some kinds are read elsewhere: Kubernetes' own objects, where the datastore has a copy of them.

Who takes addresses back must ask who is alive, and the copy may not know yet. Everything is written to the datastore.
"""

from collections.abc import AsyncGenerator, Collection
from typing import TypeVar

from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Reader, Revision, Store, Where

R = TypeVar("R", bound=Resource)


class DividedStore:
    """See `datastore.store.Store`; `elsewhere` has the last word about `kinds`."""

    def __init__(self, store: Store, elsewhere: Reader, kinds: Collection[type[Resource]]) -> None:
        self._store = store
        self._elsewhere = elsewhere
        self._kinds = frozenset(kinds)

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        return await self._reader(kind).get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        return await self._reader(kind).list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""
        return self._reader(kind).watch(kind, start, where)

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._store.create(resource)

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._store.update(resource)

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        await self._store.delete(resource)

    async def close(self) -> None:
        """See `Store.close`; the other is its owner's."""
        await self._store.close()

    def _reader(self, kind: type[Resource]) -> Reader:
        return self._elsewhere if kind in self._kinds else self._store
