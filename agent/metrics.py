"""An agent's metrics: what is counted as it happens, and what is read when Prometheus asks.

Names are listed in docs/node.md and part of what users see. No label names a pod.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.dataplane import Dataplane
from agent.graph import Graph
from agent.refresh import Refresher
from agent.routes import RouteKeeper
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Resource
from datastore.sync import KindSync
from ipam.allocator import Allocator
from ipam.tally import Tally
from kernel.tables import Family
from monitoring.metrics import Metrics, Reading

_COMMANDS = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS"})
_POLICY = ("policy",)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is read."""

    graph: Graph
    dataplane: Dataplane
    routes: RouteKeeper
    allocator: Allocator
    ready: Callable[[], bool]
    connected: Callable[[], bool]
    """Whether every watch of the datastore goes on."""
    syncs: Sequence[KindSync[Resource]]
    """The watches."""
    refreshers: Callable[[], Mapping[str, Refresher]] = field(default=dict)
    """By component."""


class AgentMetrics:
    """Counted from the start of the process; `read` adds what its parts know."""

    def __init__(self) -> None:
        self._metrics = metrics = Metrics()
        self._requests = metrics.counted("tortie_cni_requests", "CNI calls, by the SPEC's code", "command", "code")
        self._seconds = metrics.timed(
            "tortie_cni_request_duration_seconds", "Duration of CNI calls, by outcome", "command", "result"
        )
        self._isolation = metrics.timed(
            "tortie_pod_isolation_duration_seconds", "From a new pod's endpoint to its policies in the kernel"
        )
        self._programming = metrics.timed(
            "tortie_policy_programming_duration_seconds", "From a change in the datastore to the kernel"
        )
        self._applying = metrics.timed(
            "tortie_dataplane_apply_duration_seconds", "Duration of changes of sets and rules", "component"
        )
        self._applied = metrics.counted("tortie_dataplane_apply", "Changes of sets and rules", "component", "result")
        self._restored = metrics.counted("tortie_iptables_restore", "Runs of iptables-restore", "ip_family", "result")
        self._restoring = metrics.timed(
            "tortie_iptables_restore_duration_seconds", "Duration of iptables-restore, without the lock", "ip_family"
        )
        self._waiting = metrics.timed("tortie_iptables_lock_wait_seconds", "How long others held the xtables lock")
        self._routing = metrics.timed("tortie_route_sync_duration_seconds", "Duration of changes and looks at routes")
        self._asked = metrics.counted(
            "tortie_datastore_requests", "Requests to the datastore, by error", "operation", "code"
        )
        self._asking = metrics.timed(
            "tortie_datastore_request_duration_seconds", "Duration of requests to the datastore", "operation"
        )

    def text(self) -> tuple[bytes, str]:
        """See `Metrics.text`."""
        return self._metrics.text()

    def called(self, command: str, code: int, seconds: float) -> None:
        """A CNI call was answered."""
        known = command if command in _COMMANDS else "other"
        self._requests.add(known, str(code))
        self._seconds.add(seconds, known, _result(not code))

    def asked(self, operation: str, code: str, seconds: float) -> None:
        """The datastore answered, or failed; see `datastore.metered`."""
        self._asked.add(operation, code)
        if operation != "watch":
            self._asking.add(seconds, operation)

    def isolated(self, seconds: float) -> None:
        """A new pod's policies are in force."""
        self._isolation.add(seconds)

    def programmed(self, seconds: float) -> None:
        """A change in the datastore is in the kernel."""
        self._programming.add(seconds)

    def applied(self, seconds: float, ok: bool) -> None:
        """Sets and rules were changed, or the kernel refused."""
        self._applying.add(seconds, *_POLICY)
        self._applied.add(*_POLICY, _result(ok))

    def restored(self, family: Family, waited: float, seconds: float, ok: bool) -> None:
        """An iptables-restore has ended, or was refused; told in its thread."""
        self._restored.add(str(family.value), _result(ok))
        self._restoring.add(seconds, str(family.value))
        self._waiting.add(waited)

    def routed(self, seconds: float) -> None:
        """Routes were changed, or compared with the kernel."""
        self._routing.add(seconds)

    def read(self, parts: Parts) -> None:
        """Tell what these know, each time that somebody asks."""
        self._metrics.read(lambda: _readings(parts))


def _readings(parts: Parts) -> Iterator[Reading]:
    graph, compiler = parts.graph, parts.graph.compiler
    yield Reading("tortie_agent_ready", "Whether ADDs are served", {(): float(parts.ready())})
    yield Reading("tortie_datastore_connected", "Whether every watch goes on", {(): float(parts.connected())})
    broken = sum(1 for kind, _, _ in graph.not_understood if kind is NetworkPolicy)
    states: dict[tuple[str, ...], float] = {
        ("programmed",): float(compiler.policies),
        ("not_understood",): float(broken),
    }
    yield Reading("tortie_policies", "Policies known", states, ("state",))
    yield Reading("tortie_endpoints", "Pods of this node", {("local",): float(len(graph.local))}, ("scope",))
    yield from _of_kernel(parts)
    blocks, borrowed = float(len(parts.allocator.networks())), float(len(parts.allocator.borrowed()))
    yield Reading("tortie_ipam_blocks", "Blocks of this node", {(): blocks})
    yield Reading("tortie_ipam_borrowed_addresses", "Addresses in other nodes' blocks", {(): borrowed})
    yield from _of_addresses(parts.allocator.tally)
    heard: dict[tuple[str, ...], float] = {(one.kind.KIND.full_name,): one.heard_at for one in parts.syncs}
    name, text = "tortie_datastore_watch_last_heard_timestamp_seconds", "When a watch was last told anything"
    yield Reading(name, text, heard, ("kind",))
    repairs: dict[tuple[str, ...], float] = {(name,): float(one.repairs) for name, one in parts.refreshers().items()}
    name, text = "tortie_dataplane_drift_repairs", "What others changed in the kernel and was mended"
    yield Reading(name, text, repairs, ("component",), counter=True)


def _of_addresses(tally: Tally) -> Iterator[Reading]:
    given: dict[tuple[str, ...], float] = {(str(family), how): one for (family, how), one in tally.given.items()}
    name, text = "tortie_ipam_allocations", "Addresses given, from which blocks"
    yield Reading(name, text, given, ("ip_family", "source"), counter=True)
    refused: dict[tuple[str, ...], float] = {(why,): one for why, one in tally.refused.items()}
    yield Reading("tortie_ipam_allocation_failures", "Addresses not given", refused, ("reason",), counter=True)
    freed: dict[tuple[str, ...], float] = {(str(family),): one for family, one in tally.freed.items()}
    yield Reading("tortie_ipam_releases", "Addresses freed", freed, ("ip_family",), counter=True)


def _of_kernel(parts: Parts) -> Iterator[Reading]:
    desired = parts.graph.compiler.desired
    entries: dict[tuple[str, ...], float] = {}
    for found in desired.sets.values():
        key = (found.spec.type.value,)
        entries[key] = entries.get(key, 0) + len(found.members)
    yield Reading("tortie_ipset_entries", "Members of our sets", entries, ("set_type",))
    rules: dict[tuple[str, ...], float] = {
        (table.value, str(family.value)): float(
            sum(len(chain.rules) for chain in found.chains.values()) + sum(map(len, found.hooks.values()))
        )
        for (family, table), found in desired.tables.items()
    }
    yield Reading("tortie_iptables_rules", "Our rules", rules, ("table", "ip_family"))
    routes: dict[tuple[str, ...], float] = {("4",): 0, ("6",): 0}
    for route in (*parts.routes.desired(), *parts.routes.to_pods()):
        routes[str(route.destination.version),] += 1
    yield Reading("tortie_routes", "Our routes", routes, ("ip_family",))
    peers: dict[tuple[str, ...], float] = {("routed",): 0, ("unaddressed",): 0}
    for node in parts.graph.nodes.values():
        peers["routed" if node.spec.addresses else "unaddressed",] += node.name != parts.graph.node
    yield Reading("tortie_peers", "Other nodes, with an address to route by or without", peers, ("state",))
    last = parts.dataplane.succeeded_at
    name, text = "tortie_dataplane_last_success_timestamp_seconds", "When the kernel last took what was wanted"
    yield Reading(name, text, {_POLICY: last} if last else {}, ("component",))


def _result(ok: bool) -> str:
    return "success" if ok else "failure"
