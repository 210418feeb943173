"""Kubernetes' Pod as `model.Endpoint`: which pods have a network of their own, and what policies see of them."""

from collections.abc import Iterator
from ipaddress import ip_address

from datastore.errors import Invalid
from datastore.resources.kubernetes import Container, ContainerPort, Pod
from datastore.resources.networkpolicy import check_port
from policy.model import Address, Endpoint, EndpointId, NamedPort, Protocol

FINISHED = ("Succeeded", "Failed")
"""Phases in which a pod's containers don't come back and its address may be another pod's already."""


def from_pod(pod: Pod, interface: str = "") -> Endpoint | None:
    """The endpoint that a pod is, None if it is none: on the host's network, finished, or without an address yet.

    A pod that is being deleted still is one, until it has no network any more. `interface` is the host's end of its
    veth where the caller knows it.

    Raises:
        Invalid: an address or port that can't be understood, with its path.
    """
    if pod.spec.host_network or pod.status.phase in FINISHED:
        return None
    addresses = _addresses(pod)
    if not addresses:
        return None
    return Endpoint(
        EndpointId(f"{pod.namespace}/{pod.name}"),
        pod.namespace,
        pod.name,
        pod.spec.node_name,
        pod.metadata.labels,
        addresses,
        tuple(_named_ports(pod)),
        interface,
    )


def _addresses(pod: Pod) -> tuple[Address, ...]:
    texts = [entry.ip for entry in pod.status.pod_ips] or [pod.status.pod_ip]
    try:
        return tuple(dict.fromkeys(ip_address(text) for text in texts if text))
    except ValueError as error:
        raise Invalid("status.podIPs", str(error)) from None


def _named_ports(pod: Pod) -> Iterator[NamedPort]:
    """Containers' ports first, then sidecars': the order in which Kubernetes looks a name up (podutil.FindPort).

    Other init containers don't count: they are gone before the pod serves anybody.
    """
    sidecars = [container for container in pod.spec.init_containers if container.restart_policy == "Always"]
    for container in (*pod.spec.containers, *sidecars):
        yield from _container_ports(container)


def _container_ports(container: Container) -> Iterator[NamedPort]:
    for port in container.ports:
        if port.name:
            path = f"spec.containers[{container.name}].ports[{port.name}]"
            check_port(port.container_port, f"{path}.containerPort")
            yield NamedPort(port.name, _protocol(port, path), port.container_port)


def _protocol(port: ContainerPort, path: str) -> Protocol:
    try:
        return Protocol(port.protocol)
    except ValueError:
        raise Invalid(f"{path}.protocol", f"{port.protocol!r} is no protocol here") from None
