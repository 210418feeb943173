"""The gate of an ADD: the pod's endpoint goes into the policy graph, and its ADD waits for the kernel.

It opens when the kernel has acknowledged the change that contains the endpoint (invariant 3). Where that doesn't come,
the ADD fails and is undone: a pod must not run without the policies that select it.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from agent.dataplane import Dataplane
from agent.endpoints import endpoint_key
from agent.graph import Graph
from cni.node import NotEnforced
from cni.records import Record
from kernel.errors import KernelError
from policy.model import EndpointId

log = logging.getLogger(__name__)

WAIT_S = 10.0
"""For a change of 10,000 rules the kernel takes 0.3 s; another program may hold the xtables lock for seconds."""


class Gate:
    """See `cni.node.Policy`."""

    def __init__(self, graph: Graph, dataplane: Dataplane, wait_s: float = WAIT_S) -> None:
        self._graph = graph
        self._dataplane = dataplane
        self._wait_s = wait_s
        self.on_admitted: Callable[[float], None] = lambda seconds: None
        """Told how long each pod waited for the kernel."""
        self._looking = asyncio.Lock()
        self._next_look: asyncio.Future[None] | None = None
        """The look at the kernel that hasn't begun yet."""

    async def admit(self, record: Record) -> None:
        """See `Policy.admit`."""
        began = time.perf_counter()
        self._graph.set_local(record)
        try:
            async with asyncio.timeout(self._wait_s):
                await self._dataplane.settled()
        except TimeoutError:
            raise NotEnforced(f"the kernel didn't confirm the rules within {self._wait_s:g} s") from None
        except KernelError as error:
            raise NotEnforced(str(error)) from error
        self.on_admitted(time.perf_counter() - began)

    async def verify(self, record: Record) -> None:
        """See `Policy.verify`. Those who ask at once share one look at the kernel that begins after they asked."""
        if EndpointId(endpoint_key(record)) not in self._graph.local:
            raise NotEnforced("this agent's policy doesn't know the pod")
        if self._next_look is None or self._next_look.done():
            self._next_look = asyncio.ensure_future(self._look())
        try:
            async with asyncio.timeout(self._wait_s):
                await asyncio.shield(self._next_look)
        except TimeoutError:
            raise NotEnforced(f"the kernel's rules could not be read within {self._wait_s:g} s") from None
        except KernelError as error:
            raise NotEnforced(str(error)) from error

    async def _look(self) -> None:
        async with self._looking:
            self._next_look = None  # who asks from here on may have seen what this look is too early for
            found = await self._dataplane.refresh()
        if found:
            log.warning("a CHECK found and mended: %s", "; ".join(found))

    async def dismiss(self, record: Record) -> None:
        """See `Policy.dismiss`. What the kernel refuses now, the next apply or refresh mends."""
        self._graph.remove_local(record)
        try:
            async with asyncio.timeout(self._wait_s):
                await self._dataplane.settled()
        except (TimeoutError, KernelError) as error:
            log.warning("the sets still hold %s/%s for a while: %s", record.namespace, record.pod, error)
