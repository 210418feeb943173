"""How an agent is, for those who ask from outside: probes, Prometheus, and people who read Events.

An agent is ready when ADDs are served and the kernel is as it is wanted. A datastore that is away makes no node
unready: pods talk on, and restarting the agent would help nobody; so that is a warning, as is what should be mended.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from agent import events
from agent.conflist import ConflistKeeper, Places
from agent.dataplane import Dataplane
from agent.gate import Gate
from agent.graph import Graph
from agent.options import Options
from agent.refresh import Refresher
from agent.routes import RouteKeeper
from cni.config import PodIdentity
from cni.errors import CniError
from cni.plugin import Plugin
from datastore.events import About, Events, not_understood
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Resource
from datastore.sync import KindSync
from ipam.allocator import Allocator
from ipam.errors import NoAddress, NoPool
from kernel.iptables import Iptables
from monitoring.server import MonitoringServer, Readiness

if TYPE_CHECKING:
    from agent.metrics import AgentMetrics

_SHOWN = 10
"""Of many warnings of one kind."""


class Telling:
    """One agent's."""

    def __init__(self, options: Options, people: Events) -> None:
        self.metrics = _metrics(options)
        """None where nobody is to ask."""
        self._options = options
        self._people = people
        self._conflist = _keeper(options, people)
        self._plugin: Plugin | None = None
        self._dataplane: Dataplane | None = None
        self._graph: Graph | None = None
        self._syncs: Sequence[KindSync[Resource]] = ()
        self._degraded = False

    async def listen(self, stack: AsyncExitStack) -> None:
        """Answer probes and Prometheus from now on, if anybody is to ask.

        Raises:
            OSError: the port isn't to be had.
        """
        if self._options.http is not None and self.metrics is not None:
            server = MonitoringServer(self.readiness, self.metrics.text)
            await server.start(self._options.http)
            stack.push_async_callback(server.close)

    def about(
        self,
        graph: Graph,
        dataplane: Dataplane,
        gate: Gate,
        plugin: Plugin,
        syncs: Sequence[KindSync[Resource]],
    ) -> None:
        """What is told about: these parts, once they are made."""
        self._plugin, self._dataplane, self._graph, self._syncs = plugin, dataplane, graph, syncs
        graph.on_not_understood = self._not_understood
        dataplane.on_applied = self._applied
        if self.metrics is not None:
            gate.on_admitted = self.metrics.isolated
            plugin.on_done = self.metrics.called

    def measure(
        self,
        iptables: Iptables,
        routes: RouteKeeper,
        allocator: Allocator,
        refreshers: Mapping[str, Refresher],
    ) -> None:
        """What is read besides, whenever Prometheus asks; people hear of what was mended."""
        for refresher in refreshers.values():
            refresher.on_repaired = partial(self._repaired, refresher.what)
        if self.metrics is None or self._graph is None or self._dataplane is None:
            return
        from agent.metrics import Parts

        parts = Parts(
            graph=self._graph,
            dataplane=self._dataplane,
            routes=routes,
            allocator=allocator,
            ready=lambda: not self.readiness().reasons,
            syncs=self._syncs,
            connected=lambda: not any(sync.failure for sync in self._syncs),
            refreshers=lambda: refreshers,
        )
        self.metrics.read(parts)
        iptables.on_restored, routes.on_synced = self.metrics.restored, self.metrics.routed

    def programmed(self, seconds: float) -> None:
        """A change in the datastore is in the kernel."""
        if self.metrics is not None:
            self.metrics.programmed(seconds)

    async def keep_conflist(self) -> None:
        """Install the conflist and keep it so, without end; call it once ADDs are served."""
        if self._conflist is not None:
            await self._conflist.run()
        await asyncio.Event().wait()

    def refused(self, pod: PodIdentity, error: CniError) -> None:
        """An ADD failed: see `cni.node.Node.refused`."""
        if isinstance(error.__cause__, NoAddress | NoPool):
            self._people.tell(events.no_address(pod.namespace, pod.name, pod.uid, str(error.__cause__)))

    def readiness(self) -> Readiness:
        """Why this node isn't ready, and what somebody should look at."""
        return Readiness(tuple(self._reasons()), tuple(self._warnings()))

    def _reasons(self) -> Iterator[str]:
        if self._plugin is None or self._dataplane is None:
            yield "the agent starts"
            return
        if self._plugin.not_ready:
            yield self._plugin.not_ready
        if self._plugin.other_relay:
            yield self._plugin.other_relay
        if self._dataplane.failure:
            yield f"rules can't be applied: {self._dataplane.failure}"
        if self._conflist is not None and self._conflist.reason:
            yield self._conflist.reason

    def _warnings(self) -> Iterator[str]:
        if self._conflist is not None and self._conflist.warning:
            yield self._conflist.warning
        failures = [sync.failure for sync in self._syncs if sync.failure]
        yield from (f"the datastore can't be watched: {text}" for text in failures[:1])
        wrong = self._graph.not_understood if self._graph is not None else {}
        for kind, namespace, name in list(wrong)[:_SHOWN]:
            yield f"{kind.KIND.name} {namespace}/{name} isn't understood: {wrong[kind, namespace, name]}"

    def _applied(self, seconds: float, ok: bool) -> None:
        if self.metrics is not None:
            self.metrics.applied(seconds, ok)
        if not ok and self._dataplane is not None:
            self._people.tell(events.degraded(self._options.node, self._dataplane.failure))
        elif ok and self._degraded:
            self._people.tell(events.ready_again(self._options.node))
        self._degraded = not ok

    def _repaired(self, what: str, found: Sequence[str]) -> None:
        self._people.tell(events.repaired(self._options.node, what, found))

    def _not_understood(self, resource: Resource, why: str) -> None:
        """Only the nodes that have pods of its namespace tell of a policy: it is in force nowhere else."""
        if not isinstance(resource, NetworkPolicy) or self._graph is None:
            return
        if any(record.namespace == resource.namespace for record in self._graph.local.values()):
            self._people.tell(not_understood(About.of(resource), why))


def _metrics(options: Options) -> "AgentMetrics | None":
    if options.http is None:
        return None
    from agent.metrics import AgentMetrics  # its library is 15 MB, which only who is asked pays for

    return AgentMetrics()


def _keeper(options: Options, people: Events) -> ConflistKeeper | None:
    if options.conflist is None:
        return None

    def tell(why: str) -> None:
        people.tell(events.sorts_first(options.node, why))

    return ConflistKeeper(Places(options.conflist, options.conflist_folder, options.conflist_on_host), tell)
