"""Kubernetes' own Namespace, Pod, Node and the little of them that a pod network reads.

Fields we have no name for are kept (see `value`), so that a file applied here is given back whole.
"""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from datastore.resources.value import Kind, Resource, Value

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Every namespace carries its name under this label (KEP-2161); the API server sets it, so do we."""


class Namespace(Resource, frozen=True, kw_only=True):
    """core/v1 Namespace: only its labels matter here."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Namespace", "namespaces", False, ("ns",))


class ServiceAccount(Resource, frozen=True, kw_only=True):
    """core/v1 ServiceAccount: only its labels matter here."""

    KIND: ClassVar[Kind] = Kind("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",))


class ContainerPort(Value, frozen=True, kw_only=True):
    """core/v1 ContainerPort."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(Value, frozen=True, kw_only=True):
    """core/v1 Container; an init container with `restart_policy` Always is a sidecar, whose ports count."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(Value, frozen=True, kw_only=True):
    """core/v1 PodSpec."""

    node_name: str = ""
    host_network: bool = False
    service_account_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodIP(Value, frozen=True, kw_only=True):
    """core/v1 PodIP."""

    ip: str = ""


class PodStatus(Value, frozen=True, kw_only=True):
    """core/v1 PodStatus; `pod_ips` repeats `pod_ip` where it is filled."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")


class Pod(Resource, frozen=True, kw_only=True):
    """core/v1 Pod: an endpoint in Kubernetes and in `tortiectl policy evaluate`."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Pod", "pods", True, ("po",))

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def indexed(self) -> Mapping[str, frozenset[str]]:
        """`namespace` and `node` (empty for a pod that isn't scheduled)."""
        return {**super().indexed(), "node": frozenset({self.spec.node_name})}


class NodeAddress(Value, frozen=True, kw_only=True):
    """core/v1 NodeAddress."""

    type: str = ""
    address: str = ""


class NodeStatus(Value, frozen=True, kw_only=True):
    """core/v1 NodeStatus."""

    addresses: tuple[NodeAddress, ...] = ()


class KubernetesNode(Resource, frozen=True, kw_only=True):
    """core/v1 Node; not `node.Node`, our own small object."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Node", "nodes", False, ("no",))

    status: NodeStatus = NodeStatus()
