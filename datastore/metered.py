"""A store whose requests are counted and timed, whichever driver it is of."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from datastore.errors import StoreError
from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Revision, Store, Where

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

Asked = Callable[[str, str, float], None]
"""Told of each request: its operation, `ok` or the name of its error, and the seconds it took."""
OK = "ok"


class MeteredStore:
    """See `datastore.store.Store`; a watch counts when it ends, without its seconds."""

    def __init__(self, store: Store, asked: Asked, clock: Callable[[], float] = time.perf_counter) -> None:
        self._store = store
        self._asked = asked
        self._clock = clock

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        return await self._timed("get", self._store.get(kind, name, namespace))

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        return await self._timed("list", self._store.list(kind, where))

    async def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""
        code = OK
        watching = self._store.watch(kind, start, where)
        try:
            async for batch in watching:
                yield batch
        except StoreError as error:
            code = type(error).__name__
            raise
        finally:
            self._asked("watch", code, 0.0)
            await watching.aclose()

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._timed("create", self._store.create(resource))

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._timed("update", self._store.update(resource))

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        await self._timed("delete", self._store.delete(resource))

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    async def _timed(self, operation: str, asking: Awaitable[T]) -> T:
        began, code = self._clock(), OK
        try:
            return await asking
        except StoreError as error:
            code = type(error).__name__
            raise
        finally:
            self._asked(operation, code, self._clock() - began)
