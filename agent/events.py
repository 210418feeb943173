"""What an agent tells people about, in sentences that end with the next command; docs/node.md lists them."""

from datastore.events import About, Event
from datastore.resources.kubernetes import KubernetesNode, Pod
from datastore.resources.networkpolicy import NetworkPolicy


def no_address(namespace: str, pod: str, uid: str, why: str) -> Event:
    """An ADD found no address."""
    message = f"{why}; see: kubectl get ippools, tortiectl ipam show"
    return Event(About(Pod, pod, namespace, uid), "IPAllocationFailed", message)


def not_understood(namespace: str, policy: str, why: str) -> Event:
    """A policy of pods of this node says what isn't understood."""
    message = f"not in force as it stands; its last form that was understood stays in force, if there was one: {why}"
    return Event(About(NetworkPolicy, policy, namespace), "UnsupportedField", message, shared=True)


def name_taken(node: str, why: str) -> Event:
    """Another machine has this node's name."""
    return Event(About(KubernetesNode, node), "NodeNameTaken", why)


def sorts_first(node: str, why: str) -> Event:
    """Runtimes take another network's configuration."""
    return Event(About(KubernetesNode, node), "ForeignCNIConfigDetected", why)
