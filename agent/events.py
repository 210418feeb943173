"""What an agent tells people about, in sentences that end with the next command; docs/node.md lists them."""

from collections.abc import Sequence

from datastore.events import About, Event
from datastore.resources.kubernetes import KubernetesNode, Pod

ROUTES = "routes"
TABLES = "sets and rules"
_SHOWN = 3
"""Of many differences."""


def no_address(namespace: str, pod: str, uid: str, why: str) -> Event:
    """An ADD found no address."""
    message = f"{why}; see: kubectl get ippools, tortiectl ipam show"
    return Event(About(Pod, pod, namespace, uid), "IPAllocationFailed", message)


def degraded(node: str, why: str) -> Event:
    """The kernel refused what is wanted: what changes in policies isn't in force, and ADDs fail."""
    message = f"rules can't be applied: {why}; see the log of this node's agent: kubectl tortie sysdump"
    return Event(_node(node), "DataplaneDegraded", message, alike=True)


def ready_again(node: str) -> Event:
    """The kernel has what is wanted, after it hadn't."""
    return Event(_node(node), "DataplaneReady", "rules are in the kernel as they are wanted again", warning=False)


def repaired(node: str, what: str, found: Sequence[str]) -> Event:
    """Somebody else changed what is ours in the kernel."""
    reason = "RoutesDriftRepaired" if what == ROUTES else "IptablesDriftRepaired"
    more = f"; and {len(found) - _SHOWN} more, see the agent's log" if len(found) > _SHOWN else ""
    message = f"another program changed our {what}, which are put back: {'; '.join(found[:_SHOWN])}{more}"
    return Event(_node(node), reason, message, alike=True)


def name_taken(node: str, why: str) -> Event:
    """Another machine has this node's name."""
    return Event(_node(node), "NodeNameTaken", why)


def sorts_first(node: str, why: str) -> Event:
    """Runtimes take another network's configuration."""
    return Event(_node(node), "ForeignCNIConfigDetected", why)


def _node(name: str) -> About:
    """As kubelets tell of their Node: by its name for a uid, by which kubectl describe finds the Event."""
    return About(KubernetesNode, name, uid=name)
