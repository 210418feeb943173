"""What of Kubernetes' objects is kept in another datastore: the fields that a program of ours reads. No I/O.

    Namespace     labels; annotations about its pods' addresses; its uid, by which one cluster is told from another
    Node          uid; addresses
    NetworkPolicy spec
    Pod           labels; annotations of ours; uid; node, host's network or not, named ports; addresses

Left out is what changes without meaning here (heartbeats, conditions, times, what kubectl notes), so that it costs no
write. A Pod without a node has no address and one that has ended has none any more: neither is kept.
"""

from collections.abc import Mapping
from typing import TypeVar, cast

import msgspec

from cni.annotations import PREFIXES
from cni.pods import MIRROR
from datastore.resources.kubernetes import Container, KubernetesNode, Namespace, Pod, PodSpec, PodStatus
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import NO_UNKNOWN, Metadata, Resource
from policy.endpoints import FINISHED, TOLD_EARLY

R = TypeVar("R", bound=Resource)

COPIED: tuple[type[Resource], ...] = (Namespace, KubernetesNode, NetworkPolicy, Pod)
"""In the order in which they are written: whoever has a Pod of the copy has the policies that came before it."""


def copy_of(resource: R) -> R | None:
    """What is kept of an object; None for one that isn't kept. Equal copies mean the same to us."""
    match resource:
        case Namespace():
            kept: Resource | None = Namespace(metadata=_metadata(resource, labels=True, annotations=True))
        case KubernetesNode():
            kept = KubernetesNode(metadata=_metadata(resource), status=_plain(resource.status))
        case NetworkPolicy():
            kept = NetworkPolicy(metadata=_metadata(resource), spec=resource.spec)
        case Pod():
            kept = _pod(resource)
        case _:
            kept = None
    return cast("R | None", kept)


def _pod(pod: Pod) -> Pod | None:
    if not pod.spec.node_name or pod.status.phase in FINISHED:
        return None
    status = PodStatus(pod_ip=pod.status.pod_ip, pod_ips=tuple(_plain(one) for one in pod.status.pod_ips))
    metadata = _metadata(pod, labels=True, annotations=True)
    if status.pod_ip or status.pod_ips:  # what was told early doesn't count beside it
        annotations = {key: value for key, value in metadata.annotations.items() if key != TOLD_EARLY}
        metadata = msgspec.structs.replace(metadata, annotations=annotations)
    spec = PodSpec(
        node_name=pod.spec.node_name,
        host_network=pod.spec.host_network,
        containers=_serving(pod.spec.containers),
        init_containers=_serving(pod.spec.init_containers),
    )
    return Pod(metadata=metadata, spec=spec, status=status)


def _serving(containers: tuple[Container, ...]) -> tuple[Container, ...]:
    """The containers with named ports, which alone mean something to a policy."""
    found = []
    for container in containers:
        ports = tuple(_plain(port) for port in container.ports if port.name)
        if ports:
            found.append(Container(name=container.name, ports=ports, restart_policy=container.restart_policy))
    return tuple(found)


def _metadata(resource: Resource, *, labels: bool = False, annotations: bool = False) -> Metadata:
    found = resource.metadata
    return Metadata(
        name=found.name,
        namespace=found.namespace,
        labels=found.labels if labels else {},
        annotations=_ours(found.annotations) if annotations else {},
        uid=found.uid,
    )


def _ours(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key.startswith(PREFIXES) or key == MIRROR}


V = TypeVar("V", bound=msgspec.Struct)


def _plain(value: V) -> V:
    """A value without the fields that have no name here."""
    return msgspec.structs.replace(value, unknown=NO_UNKNOWN)
