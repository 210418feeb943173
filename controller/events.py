"""What a controller tells people about, in sentences that end with the next command; docs/controller.md lists them."""

from collections.abc import Iterator, Sequence

from controller.pools import EFFECTIVE, READY, condition
from controller.selected import Idle
from datastore.events import About, Event
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration
from datastore.resources.ippool import IPPool
from datastore.resources.value import Resource

NEARLY_FULL = 0.8
"""Of a pool's addresses given; the alert of that name begins there, too (docs/controller.md)."""
_SHOWN = 3
_OF_CONDITIONS = {
    (READY, "Overlaps"): "PoolOverlap",
    (EFFECTIVE, "UnsupportedField"): "UnsupportedField",
    (EFFECTIVE, "SelectsNoNodes"): "PoolSelectsNoNodes",
}
"""Reasons of conditions that are told as Events, too."""


def taken_back(lines: Sequence[str]) -> Event:
    """What one look took back from departed nodes."""
    more = f"; and {len(lines) - _SHOWN} more, see the log" if len(lines) > _SHOWN else ""
    message = "; ".join(lines[:_SHOWN]) + more
    return Event(About(ClusterConfiguration, NAME), "AddressesReclaimed", message, warning=False)


def created(line: str) -> Event:
    """A new cluster was given an object."""
    return Event(About(ClusterConfiguration, NAME), "DefaultsCreated", line, warning=False)


def of_pool(pool: IPPool) -> Iterator[Event]:
    """What of a pool isn't as its maker will have meant it, and that it has nothing left, or soon."""
    about = About.of(pool)
    for kind, why in _OF_CONDITIONS:
        found = condition(pool, kind)
        if found is not None and found.status == "False" and found.reason == why:
            yield Event(about, _OF_CONDITIONS[kind, why], found.message)
    if pool.spec.disabled or pool.status.conflicts_with or not pool.status.capacity:
        return
    if not pool.status.free:
        message = f"{pool.spec.cidr} has no free address; make another pool, or see: tortiectl ipam check"
        yield Event(about, "PoolExhausted", message)
    elif pool.status.used >= NEARLY_FULL * pool.status.capacity:
        message = f"more than {NEARLY_FULL:.0%} of {pool.spec.cidr} are given; see: tortiectl ipam show"
        yield Event(about, "PoolNearlyFull", message)


def selects_no_pods(idle: Idle) -> Event:
    """A policy whose selector nothing matches."""
    message = (
        f"no pod of this namespace has the labels of spec.podSelector ({idle.selector}), and those in their node's "
        f"network are never selected; see: kubectl get pods -n {idle.about.namespace} --show-labels"
    )
    return Event(idle.about, "PolicySelectsNoPods", message)


def not_copied(resource: Resource, why: str) -> Event:
    """An object of Kubernetes that the datastore refuses."""
    about = About(type(resource), resource.name, resource.namespace, resource.metadata.uid)
    return Event(about, "NotCopied", f"agents don't know it as it is now: the datastore refuses it: {why}")


def copy_behind(kind: type[Resource]) -> Event:
    """Objects of a kind that aren't in the datastore as they are."""
    message = (
        f"{kind.KIND.plural} in the datastore aren't what the API has; "
        "see: kubectl -n tortie-system logs deployment/tortie-controller"
    )
    return Event(About(ClusterConfiguration, NAME), "CopyBehind", message)
