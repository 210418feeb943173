"""What this node knows: the store's objects and the local records, fed into the policy compiler.

Each kind arrives as a listing and then as changes; a listing also says what is gone. Objects that can't be understood
are passed over with a warning that names them: one broken policy must not stop the rest. (A policy that can't be
understood keeps its last form that could.)
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import TypeVar

from agent.endpoints import endpoint_key, endpoint_of_record
from cni.annotations import NamespaceFacts, facts_of
from cni.pods import PodFacts
from cni.pods import facts_of as facts_of_pod
from cni.records import Record
from datastore.errors import Invalid
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kubernetes import Namespace, Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone
from policy.compiler import Compiler
from policy.endpoints import from_pod, from_workload_endpoint, node_addresses
from policy.model import EndpointId, Policy, PolicyKey
from policy.networkpolicy import convert

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)
Key = tuple[type[Resource], str, str]


class Graph:
    """Everything that policy depends on; `compiler` holds what follows from it."""

    def __init__(self, node: str, compiler: Compiler) -> None:
        self.node = node
        self.compiler = compiler
        self.nodes: dict[str, Node] = {}
        """Every Node, for routes."""
        self.pools: dict[str, IPPool] = {}
        self.reservations: dict[str, IPReservation] = {}
        self.configuration = ClusterConfigurationSpec()
        self.local: dict[EndpointId, Record] = {}
        """The pods of this node."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after each listing and each batch of changes; whoever changes a local pod applies it himself."""
        self.on_lost: Callable[[Record], None] = lambda _: None
        """Called when somebody deleted the endpoint of a pod of this node that is there."""
        self.not_understood: dict[Key, str] = {}
        """Objects that were passed over, and why."""
        self.on_not_understood: Callable[[Resource, str], None] = lambda resource, why: None
        self._namespaces: dict[str, NamespaceFacts] = {}
        self._pods: dict[tuple[str, str], PodFacts] = {}
        """Pods of this node, by namespace and name."""
        self._revisions: dict[Key, str] = {}
        """Of every object seen, by kind, namespace and name."""

    def seen(self, kind: type[Resource], namespace: str, name: str) -> str:
        """The revision at which an object was last told; empty if it isn't there."""
        return self._revisions.get((kind, namespace, name), "")

    def on_listed(self, kind: type[R], resources: Sequence[R]) -> None:
        """A whole listing of a kind: what isn't in it is gone."""
        listed = {(kind, resource.namespace, resource.name) for resource in resources}
        gone = [key for key in self._revisions if key[0] is kind and key not in listed]
        self.on_changed(kind, [*(Gone(namespace, name) for _, namespace, name in gone), *resources])

    def on_changed(self, kind: type[R], changes: Iterable[R | Gone]) -> None:
        """Objects that came, changed or went."""
        for change in changes:
            if isinstance(change, Gone):
                self._revisions.pop((kind, change.namespace, change.name), None)
                self.not_understood.pop((kind, change.namespace, change.name), None)
                self._remove(kind, change)
            else:
                self._revisions[kind, change.namespace, change.name] = change.revision
                self.not_understood.pop((kind, change.namespace, change.name), None)
                self._set(change)
        self.on_change()

    async def facts(self, name: str) -> NamespaceFacts:
        """What a namespace says of its pods' addresses; see `cni.annotations.Namespaces`."""
        return self.namespace(name)

    def namespace(self, name: str) -> NamespaceFacts:
        """A namespace, as it was last told; without labels and annotations where there is none."""
        return self._namespaces.get(name, NamespaceFacts())

    def pod(self, namespace: str, name: str, uid: str = "") -> PodFacts | None:
        """A Pod of this node, as it was last told; None if there is none of this name and uid."""
        found = self._pods.get((namespace, name))
        return found if found is not None and found.is_called(uid) else None

    def policies_of(self, namespace: str) -> dict[PolicyKey, Policy]:
        """The policies of a namespace that are in force."""
        return self.compiler.policies_of(namespace)

    def set_local(self, record: Record) -> None:
        """A pod of this node is there, or has changed."""
        endpoint = endpoint_of_record(record, self.node, self.pod(record.namespace, record.pod, record.uid))
        self.local[endpoint.id] = record
        self.compiler.set_endpoint(endpoint)

    def remove_local(self, record: Record) -> None:
        """A pod of this node is gone; another one like it will find its rules (see `agent.upkeep`)."""
        endpoint = EndpointId(endpoint_key(record))
        self.local.pop(endpoint, None)
        self.compiler.remove_endpoint(endpoint, keep_group=True)

    def _set(self, resource: Resource) -> None:
        try:
            match resource:
                case NetworkPolicy():
                    self.compiler.set_policy(convert(resource))
                case Namespace():
                    self.compiler.set_namespace(resource.name, resource.metadata.labels)
                    self._namespaces[resource.name] = facts_of(resource)
                case Node():
                    self.nodes[resource.name] = resource
                    self.compiler.set_node(resource.name, node_addresses(resource))
                case IPPool():
                    self.pools[resource.name] = resource
                    network = ip_network(resource.spec.cidr)
                    self.compiler.set_pool(resource.name, network, nat=resource.spec.nat_outgoing)
                case IPReservation():
                    self.reservations[resource.name] = resource
                case ClusterConfiguration():
                    self.configuration = resource.spec
                case WorkloadEndpoint() if resource.spec.node != self.node:
                    self.compiler.set_endpoint(from_workload_endpoint(resource))
                case Pod() if resource.spec.node_name == self.node:
                    self._pods[resource.namespace, resource.name] = facts_of_pod(resource)
                    self._look_again_at(resource.namespace, resource.name)
                case Pod():
                    self._set_pod(resource)
                case _:
                    pass
        except (Invalid, ValueError) as error:
            log.warning("%s is passed over: %s", resource.key, error)
            self.not_understood[type(resource), resource.namespace, resource.name] = str(error)
            self.on_not_understood(resource, str(error))

    def _set_pod(self, pod: Pod) -> None:
        """A pod of another node, or of none yet."""
        endpoint = from_pod(pod)
        if endpoint is None:
            self._remove_endpoint(pod.namespace, pod.name)
        elif endpoint.id not in self.local:
            self.compiler.set_endpoint(endpoint)

    def _look_again_at(self, namespace: str, pod: str) -> None:
        """What a Pod of this node says has changed: its interfaces follow."""
        for record in [one for one in self.local.values() if (one.namespace, one.pod) == (namespace, pod)]:
            self.set_local(record)

    def _remove_endpoint(self, namespace: str, name: str) -> None:
        endpoint = EndpointId(f"{namespace}/{name}")
        if endpoint not in self.local:
            self.compiler.remove_endpoint(endpoint)

    def _remove(self, kind: type[Resource], gone: Gone) -> None:
        if kind is NetworkPolicy:
            self.compiler.remove_policy(PolicyKey(f"{gone.namespace}/{gone.name}"))
        elif kind is Namespace:
            self.compiler.remove_namespace(gone.name)
            self._namespaces.pop(gone.name, None)
        elif kind is Node and self.nodes.pop(gone.name, None) is not None:
            self.compiler.remove_node(gone.name)
        elif kind is IPPool:
            self.pools.pop(gone.name, None)
            self.compiler.remove_pool(gone.name)
        elif kind is IPReservation:
            self.reservations.pop(gone.name, None)
        elif kind is ClusterConfiguration:
            self.configuration = ClusterConfigurationSpec()
        elif kind is Pod:
            if self._pods.pop((gone.namespace, gone.name), None) is not None:
                self._look_again_at(gone.namespace, gone.name)
            self._remove_endpoint(gone.namespace, gone.name)
        elif kind is WorkloadEndpoint:
            lost = self.local.get(EndpointId(f"{gone.namespace}/{gone.name}"))
            if lost is not None:
                self.on_lost(lost)
            self._remove_endpoint(gone.namespace, gone.name)
