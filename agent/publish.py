"""Writing WorkloadEndpoints: soon after an ADD, before the end of a DEL, and whatever is missing at start."""

import asyncio
import logging

import msgspec

from agent.endpoints import endpoint_key, endpoint_name, resource_of
from cni.records import Record
from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound, StoreError, Unknown
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store, Where

log = logging.getLogger(__name__)

_TRIES = 8
_FIRST_PAUSE_S = 0.05
_OWED_EVERY_S = 5.0
_ANSWER_FIRST_S = 0.002
"""The pod's answer is a few turns of the loop away; whatever starts before it makes it wait."""


class Publisher:
    """The WorkloadEndpoints of one node; only its agent writes them."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._written: dict[str, WorkloadEndpoint] = {}
        """By key, as last written: what a DEL needs to delete without reading."""
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._owed: dict[str, Record] = {}
        """What could not be written."""

    def publish(self, record: Record) -> None:
        """See `cni.node.Endpoints.publish`. What fails is tried again by `run`."""
        key = endpoint_key(record)
        task = asyncio.create_task(self._publish_after(self._writing.get(key), record))
        self._writing[key] = task
        task.add_done_callback(lambda done: self._written_or_owed(record, done))

    async def withdraw(self, record: Record) -> None:
        """See `cni.node.Endpoints.withdraw`."""
        key = endpoint_key(record)
        writing = self._writing.pop(key, None)
        if writing is not None:
            await asyncio.wait((writing,))
        self._owed.pop(key, None)
        await self._delete(self._written.pop(key, None), endpoint_name(record), record.namespace)

    async def run(self, every_s: float = _OWED_EVERY_S) -> None:
        """Write what could not be written, now and then, without end."""
        while True:
            await asyncio.sleep(every_s)
            owed, self._owed = self._owed, {}
            for record in owed.values():
                self.publish(record)

    async def reconcile(self, records: list[Record]) -> None:
        """Publish what is missing or differs, and withdraw what no record names.

        Raises:
            StoreError: the store can't be used.
        """
        listing = await self._store.list(WorkloadEndpoint, Where("node", self._node))
        there = {f"{found.namespace}/{found.name}": found for found in listing.items}
        wanted = {endpoint_key(record): record for record in records}
        for key, found in there.items():
            if key not in wanted:
                await self._delete(found, found.name, found.namespace)
        for key, record in wanted.items():
            found_or_none = there.get(key)
            if found_or_none is None or found_or_none.spec != resource_of(record, self._node).spec:
                try:
                    await self._publish(record)
                except Invalid as error:
                    log.error("%s can't be published, so other nodes don't know it: %s", key, error)
            else:
                self._written[key] = found_or_none

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    async def _publish_after(self, before: "asyncio.Task[None] | None", record: Record) -> None:
        await asyncio.sleep(_ANSWER_FIRST_S)
        if before is not None:
            await asyncio.wait((before,))
        await self._publish(record)

    async def _publish(self, record: Record) -> None:
        wanted = resource_of(record, self._node)
        pause_s = _FIRST_PAUSE_S
        for attempt in range(_TRIES):
            try:
                self._written[endpoint_key(record)] = await self._put(wanted)
                return
            except (Conflict, NotFound):
                continue
            except StoreError:
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(pause_s)
                pause_s *= 2

    async def _put(self, wanted: WorkloadEndpoint) -> WorkloadEndpoint:
        try:
            return await self._store.create(wanted)
        except AlreadyExists:
            found = await self._store.get(WorkloadEndpoint, wanted.name, wanted.namespace)
        metadata = msgspec.structs.replace(wanted.metadata, resource_version=found.revision)
        return await self._store.update(msgspec.structs.replace(wanted, metadata=metadata))

    async def _delete(self, known: WorkloadEndpoint | None, name: str, namespace: str) -> None:
        for _ in range(_TRIES):
            try:
                found = known or await self._store.get(WorkloadEndpoint, name, namespace)
                await self._store.delete(found)
                return
            except NotFound:
                return
            except (Conflict, Unknown):
                known = None  # read it again: it was written since, or a lost answer was of this very delete
        raise Unknown(f"WorkloadEndpoint {namespace}/{name} may or may not be deleted")

    def _written_or_owed(self, record: Record, done: "asyncio.Task[None]") -> None:
        key, failure = endpoint_key(record), None if done.cancelled() else done.exception()
        if failure is not None:
            log.warning("the endpoint %s can't be published: %s", key, failure)
        if self._writing.get(key) is not done:
            return  # it is being withdrawn, or written anew
        del self._writing[key]
        if isinstance(failure, StoreError) and not isinstance(failure, Invalid):
            self._owed[key] = record
