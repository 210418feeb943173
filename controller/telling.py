"""How a controller is, for probes and Prometheus, and what it does, for people who read Events.

A controller is ready once it answers: one that waits for the Lease does its work by waiting. What it can't do now is a
warning, for starting it anew would only begin its graces anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack

from controller.copier import LATE_S, Copier
from controller.options import Options
from controller.view import View
from datastore.events import About, Event, Events
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration
from datastore.resources.ippool import IPPool
from datastore.resources.value import Resource
from monitoring.metrics import Metrics, Reading
from monitoring.server import MonitoringServer, Readiness

NEARLY_FULL = 0.8
"""Of a pool's addresses given; the alert of that name begins there, too (docs/controller.md)."""
_SHOWN = 3


class Telling:
    """One controller's."""

    def __init__(self, options: Options, people: Events) -> None:
        self._options = options
        self._people = people
        self._metrics = metrics = Metrics()
        self._released = metrics.counted(
            "tortie_ipam_gc_released", "What departed nodes left and was taken back", "kind"
        )
        self._asked = metrics.counted(
            "tortie_datastore_requests", "Requests to the datastore, by error", "operation", "code"
        )
        self._asking = metrics.timed(
            "tortie_datastore_request_duration_seconds", "Duration of requests to the datastore", "operation"
        )
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
        if not lines:
            return
        more = f"; and {len(lines) - _SHOWN} more, see the log" if len(lines) > _SHOWN else ""
        message = "; ".join(lines[:_SHOWN]) + more
        self._people.tell(Event(About(ClusterConfiguration, NAME), "AddressesReclaimed", message, warning=False))

    def full(self, pools: Iterable[IPPool]) -> None:
        """Tell of pools that have nothing left, or soon."""
        for pool in pools:
            name = pool.name
            if pool.spec.disabled or not pool.status.capacity:
                continue
            if not pool.status.free:
                message = f"{pool.spec.cidr} has no free address; make another pool, or see: tortiectl ipam check"
                self._people.tell(Event(About(IPPool, name), "PoolExhausted", message))
            elif pool.status.used >= NEARLY_FULL * pool.status.capacity:
                message = f"more than {NEARLY_FULL:.0%} of {pool.spec.cidr} are given; see: tortiectl ipam show"
                self._people.tell(Event(About(IPPool, name), "PoolNearlyFull", message))

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
        copier = self._copier()
        about_objects = set(copier.complaints()) if copier is not None else set[str]()
        connected = float(not set(self._failures()) - about_objects)
        yield Reading("tortie_datastore_connected", "Whether the datastore does what it is asked", {(): connected})
        yield from self._of_the_copy()
        pools = self._view().pools
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
