"""How a controller is, for probes and Prometheus, and what it does, for people who read Events.

A controller is ready once it answers: one that waits for the Lease does its work by waiting. What it can't do now is a
warning, for starting it anew would only begin its graces anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack

from controller import events
from controller.copier import LATE_S, Copier
from controller.options import Options
from controller.selected import Idle, Selected, Sometimes
from controller.view import View
from datastore.events import About, Event, Events, not_understood
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration
from datastore.resources.ippool import IPPool
from datastore.resources.value import Resource
from monitoring.metrics import Metrics, Reading
from monitoring.server import MonitoringServer, Readiness

_AGAIN_S = 3600.0
_AT_ONCE = 5
"""Of a look; a cluster may have hundreds of policies for pods to come."""


class Telling:
    """One controller's."""

    def __init__(self, options: Options, people: Events) -> None:
        self._options = options
        self._people = people
        self._metrics = metrics = Metrics()
        self._released = metrics.counted(
            "tortie_ipam_gc_released", "What departed nodes left and was taken back", "kind"
        )
        self._created = metrics.counted("tortie_controller_created", "What a new cluster was given", "kind")
        self._looked = metrics.timed(
            "tortie_controller_look_duration_seconds", "Looks at departed nodes, pools and policies", "result"
        )
        self._statuses = metrics.counted("tortie_ipam_pool_status_updates", "Statuses of pools that were written")
        self._asked = metrics.counted(
            "tortie_datastore_requests", "Requests to the datastore, by error", "operation", "code"
        )
        self._asking = metrics.timed(
            "tortie_datastore_request_duration_seconds", "Duration of requests to the datastore", "operation"
        )
        self._idle: list[Idle] = []
        self._sometimes_idle = Sometimes[Idle](_AGAIN_S, _AT_ONCE)
        self._sometimes_wrong = Sometimes[tuple[About, str]](_AGAIN_S, _AT_ONCE)
        self._leads: Callable[[], bool] = lambda: False
        self._view: Callable[[], View] = View
        self._failures: Callable[[], Sequence[str]] = tuple
        self._copier: Callable[[], Copier | None] = lambda: None

    def about(
        self,
        leads: Callable[[], bool],
        view: Callable[[], View],
        failures: Callable[[], Sequence[str]],
        copier: Callable[[], Copier | None] = lambda: None,
    ) -> None:
        """What is told about, each time that somebody asks."""
        self._leads, self._view, self._failures, self._copier = leads, view, failures, copier

    async def listen(self, stack: AsyncExitStack) -> None:
        """Answer probes and Prometheus from now on, if anybody is to ask.

        Raises:
            OSError: the port isn't to be had.
        """
        self._metrics.read(self._readings)
        if self._options.http is not None:
            server = MonitoringServer(lambda: Readiness((), tuple(self._failures())), self.text)
            await server.start(self._options.http)
            stack.push_async_callback(server.close)

    def text(self) -> tuple[bytes, str]:
        """See `Metrics.text`."""
        return self._metrics.text()

    def asked(self, operation: str, code: str, seconds: float) -> None:
        """The datastore answered, or failed; see `datastore.metered`."""
        self._asked.add(operation, code)
        if operation != "watch":
            self._asking.add(seconds, operation)

    def taken_back(self, lines: Sequence[str]) -> None:
        """One look took these back; each line begins with what was done, and to what (`ipam.reclaim_departed`)."""
        for line in lines:
            self._released.add("address" if line.startswith("reclaimed") else line.split()[1])
        if lines:
            self._people.tell(events.taken_back(lines))

    def created(self, line: str) -> None:
        """A new cluster was given something; the line says "created KIND NAME: why" (`controller.defaults`)."""
        self._created.add(line.split()[1])
        self._people.tell(events.created(line))

    def looked(self, seconds: float, *, ok: bool, statuses: int) -> None:
        """A look has ended, having written so many pools' statuses."""
        self._looked.add(seconds, "success" if ok else "failure")
        self._statuses.add(amount=statuses)

    def about_pools(self, pools: Iterable[IPPool]) -> None:
        """Tell of pools that have nothing left, or soon, and of those that aren't used as they say."""
        for pool in pools:
            for event in events.of_pool(pool):
                self._people.tell(event)

    def about_policies(self, selected: Selected, now: float) -> None:
        """Tell of policies that do nothing as they stand, each once an hour: that long Kubernetes keeps an Event."""
        self._idle = selected.idle(now)
        for idle in self._sometimes_idle.due(self._idle, now):
            self._people.tell(events.selects_no_pods(idle))
        for about, why in self._sometimes_wrong.due(list(selected.wrong.values()), now):
            self._people.tell(not_understood(about, why))

    def refused(self, resource: Resource, why: str) -> None:
        """An object of Kubernetes can't be copied into the datastore, so agents don't know it."""
        about = About(type(resource), resource.name, resource.namespace, resource.metadata.uid)
        self._people.tell(
            Event(about, "NotCopied", f"agents don't know it as it is now: the datastore refuses it: {why}")
        )

    def late(self, copier: Copier | None) -> None:
        """Tell of a copy that has been behind for long."""
        for ledger in copier.ledgers.values() if copier is not None else ():
            if ledger.behind_s() > LATE_S:
                message = (
                    f"{ledger.kind.KIND.plural} in the datastore aren't what the API has; "
                    "see: kubectl -n tortie-system logs deployment/tortie-controller"
                )
                self._people.tell(Event(About(ClusterConfiguration, NAME), "CopyBehind", message))

    def _readings(self) -> Iterator[Reading]:
        yield Reading("tortie_controller_leader", "Whether this one leads", {(): float(self._leads())})
        view = self._view()
        nodes: dict[tuple[str, ...], float] = {("present",): len(view.nodes), ("departed",): len(view.absent())}
        yield Reading("tortie_controller_nodes", "Nodes, and names that something is left of", nodes, ("state",))
        policies: dict[tuple[str, ...], float] = {
            ("selects_no_pods",): len(self._idle),
            ("not_understood",): len(view.selected.wrong),
        }
        yield Reading("tortie_controller_policies", "Policies that do nothing", policies, ("state",))
        copier = self._copier()
        about_objects = set(copier.complaints()) if copier is not None else set[str]()
        connected = float(not set(self._failures()) - about_objects)
        yield Reading("tortie_datastore_connected", "Whether the datastore does what it is asked", {(): connected})
        yield from self._of_the_copy()
        pools = view.pools
        for name, text, values in (
            ("pool_addresses", "Addresses of a pool", {one: pool.status.capacity for one, pool in pools.items()}),
            (
                "pool_allocated_addresses",
                "Those that are given",
                {one: pool.status.used for one, pool in pools.items()},
            ),
            ("blocks", "Its blocks", {one: pool.status.blocks for one, pool in pools.items()}),
        ):
            yield Reading(f"tortie_ipam_{name}", text, _by_name(values), ("pool",))

    def _of_the_copy(self) -> Iterator[Reading]:
        copier = self._copier()
        if copier is None:
            return
        kinds = {ledger.kind.KIND.full_name: ledger for ledger in copier.ledgers.values()}
        for name, text, values in (
            (
                "objects",
                "Objects of Kubernetes that are wanted in the datastore",
                {k: v.objects for k, v in kinds.items()},
            ),
            ("pending", "Those that aren't there as they are", {k: v.due for k, v in kinds.items()}),
            ("refused", "Those that the datastore refuses", {k: len(v.refused) for k, v in kinds.items()}),
            (
                "behind_seconds",
                "For how long the oldest has been pending, or the API not heard",
                {k: copier.behind_s(v) for k, v in kinds.items()},
            ),
        ):
            yield Reading(f"tortie_copy_{name}", text, _by_name(values), ("kind",))
        writes: dict[tuple[str, ...], float] = {key: float(count) for key, count in copier.done.items()}
        yield Reading("tortie_copy_writes", "Writes by this leader", writes, ("kind", "verb"), counter=True)


def _by_name(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in values.items()}
