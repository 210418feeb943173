"""How this node is, for STATUS: can ADD be served, are the pods that run as they should be.

Whether the store can be written is known only by writing. So once in a while, after an ADD that failed, and as long as
the last try did, a STATUS has this node's Node written as it is; it waits for a moment only and otherwise tells what
was known last. A store that doesn't answer within seconds is as good as one that says no.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from agent.dataplane import Dataplane
from agent.identity import NodeObject
from datastore.errors import StoreError
from datastore.resources.value import Resource
from datastore.sync import KindSync

_EVERY_S = 30.0
_WAIT_S = 0.015
"""STATUS is to be answered within 20 ms."""
_LONG_S = 2.0
"""A store that is away for less isn't worth a node that is not ready."""


class Health:
    """See `cni.node.Health`."""

    def __init__(
        self,
        syncs: Sequence[KindSync[Resource]],
        node_object: NodeObject,
        dataplane: Dataplane,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._syncs = syncs
        self._node_object = node_object
        self._dataplane = dataplane
        self._clock = clock
        self._failure = ""
        self._doubted = False
        self._written_at = clock()
        """When the store was last written, or began to be tried."""
        self._trying: asyncio.Task[None] | None = None

    def doubt(self) -> None:
        """See `cni.node.Health.doubt`."""
        self._doubted = True

    def hurts_pods(self) -> str:
        """See `cni.node.Health.hurts_pods`."""
        return f"rules can't be applied: {self._dataplane.failure}" if self._dataplane.failure else ""

    async def trouble(self) -> str:
        """See `cni.node.Health.trouble`."""
        now = self._clock()
        for sync in self._syncs:
            if sync.failure and now - sync.failing_since > _LONG_S:
                return f"the datastore can't be watched: {sync.failure}"
        due = self._doubted or self._failure or now - self._written_at > _EVERY_S
        if self._trying is None and due:
            self._written_at, self._doubted = now, False
            self._trying = asyncio.create_task(self._try())
        if self._trying is not None:
            await asyncio.wait((self._trying,), timeout=_WAIT_S)
        if self._trying is not None and now - self._written_at > _LONG_S:
            return "the datastore doesn't answer"
        return self._failure

    async def _try(self) -> None:
        try:
            await self._node_object.touch()
        except StoreError as error:
            self._failure = f"the datastore can't be written: {error}"
        else:
            self._failure = ""
        finally:
            self._trying = None
