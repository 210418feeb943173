"""Pods and WorkloadEndpoints as `model.Endpoint`, and both kinds of Node as addresses: what policies see of them."""

import json
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from datastore.errors import Invalid
from datastore.resources.kubernetes import Container, KubernetesNode, Pod
from datastore.resources.names import parse_address
from datastore.resources.networkpolicy import check_port
from datastore.resources.node import Node
from datastore.resources.workloadendpoint import WorkloadEndpoint
from policy.model import Address, Endpoint, EndpointId, NamedPort, Protocol

_NODE_ADDRESS_TYPES = ("InternalIP", "ExternalIP")
"""core/v1 NodeAddressType of those that are addresses."""
FINISHED = ("Succeeded", "Failed")
"""Phases in which a pod's containers don't come back and its address may be another pod's already."""
TOLD_EARLY = "cni.tortie.dev/podIPs"
"""The annotation in which a pod's agent tells its addresses, a JSON list, seconds before its kubelet does."""


def from_pod(pod: Pod, interface: str = "") -> Endpoint | None:
    """The endpoint that a pod is, None if it is none: on the host's network, finished, or without an address yet.

    A pod that is being deleted still is one, until it has no network any more. `interface` is the host's end of its
    veth where the caller knows it.

    Raises:
        Invalid: an address or port that can't be understood, with its path.
    """
    if pod.spec.host_network or pod.status.phase in FINISHED:
        return None
    addresses = addresses_of(pod)
    if not addresses:
        return None
    return Endpoint(
        EndpointId(f"{pod.namespace}/{pod.name}"),
        pod.namespace,
        pod.name,
        pod.spec.node_name,
        pod.metadata.labels,
        addresses,
        tuple(named_ports(pod)),
        interface,
    )


def from_workload_endpoint(resource: WorkloadEndpoint, endpoint: EndpointId | None = None) -> Endpoint:
    """The endpoint that a node's agent published, under the object's own name unless `endpoint` says another.

    Its interface is left out: only the endpoint's own node knows by itself which one is meant.

    Raises:
        Invalid: an address or port that can't be understood, with its path.
    """
    spec = resource.spec
    return Endpoint(
        endpoint or EndpointId(f"{resource.namespace}/{resource.name}"),
        resource.namespace,
        spec.pod,
        spec.node,
        resource.metadata.labels,
        _parsed(spec.addresses, "spec.addresses"),
        tuple(_named_port(port.name, port.protocol, port.port, f"spec.ports[{port.name}]") for port in spec.ports),
    )


def node_addresses(node: Node | KubernetesNode) -> tuple[Address, ...]:
    """The addresses that a node itself uses; names among them are passed over.

    Raises:
        Invalid: an address that can't be understood, with its path.
    """
    if isinstance(node, Node):
        return _parsed(node.spec.addresses, "spec.addresses")
    given = (entry.address for entry in node.status.addresses if entry.type in _NODE_ADDRESS_TYPES)
    return _parsed(given, "status.addresses")


def addresses_of(pod: Pod) -> tuple[Address, ...]:
    """A pod's addresses as its kubelet tells them; until it does, as its agent did.

    A kubelet's word can only be the kubelet's; that an annotation is its agent's word is held by an admission policy
    (manifests/base/admission.yaml), which a cluster may lack. So an annotation counts no longer than it has to, and not
    for a pod that no node has.

    Raises:
        Invalid: an address in the status that can't be understood.
    """
    texts = [entry.ip for entry in pod.status.pod_ips] or [pod.status.pod_ip]
    told = tuple(text for text in texts if text)
    return _parsed(told, "status.podIPs") if told else _told_early(pod)


def _told_early(pod: Pod) -> tuple[Address, ...]:
    text = pod.metadata.annotations.get(TOLD_EARLY, "")
    if not text or not pod.spec.node_name:
        return ()
    try:
        found = json.loads(text)
        return _parsed(found, "") if _is_texts(found) else ()
    except (ValueError, RecursionError, Invalid):
        return ()  # nothing an agent wrote


def _is_texts(found: object) -> TypeGuard[list[str]]:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _parsed(texts: Iterable[str], path: str) -> tuple[Address, ...]:
    """The addresses of texts from outside; one with a zone, in which any text may stand, never gets into a rule."""
    return tuple(dict.fromkeys(parse_address(text, path) for text in texts))


def named_ports(pod: Pod) -> Iterator[NamedPort]:
    """Containers' ports first, then sidecars': the order in which Kubernetes looks a name up (podutil.FindPort).

    Other init containers don't count: they are gone before the pod serves anybody.

    Raises:
        Invalid: a port that can't be understood, with its path.
    """
    sidecars = [container for container in pod.spec.init_containers if container.restart_policy == "Always"]
    for container in (*pod.spec.containers, *sidecars):
        yield from _container_ports(container)


def _container_ports(container: Container) -> Iterator[NamedPort]:
    for port in container.ports:
        if port.name:
            path = f"spec.containers[{container.name}].ports[{port.name}]"
            check_port(port.container_port, f"{path}.containerPort")
            yield _named_port(port.name, port.protocol, port.container_port, path)


def _named_port(name: str, protocol: str, number: int, path: str) -> NamedPort:
    try:
        found = Protocol(protocol)
    except ValueError:
        raise Invalid(f"{path}.protocol", f"{protocol!r} is no protocol here") from None
    check_port(number, f"{path}.port")
    return NamedPort(name, found, number)
