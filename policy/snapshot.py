"""A cluster's objects as the `Snapshot` that verdicts are about; from a store or from files alike.

Pods are named `namespace/name`. A pod on the host's network is no endpoint: its traffic is its node's, so whoever names
it means its node's address.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from datastore.errors import Invalid
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from policy.endpoints import from_pod, from_workload_endpoint, node_addresses
from policy.evaluate import Snapshot, UnknownEndpoint
from policy.model import Address, Endpoint, EndpointId
from policy.networkpolicy import convert


@dataclass(frozen=True, slots=True)
class Cluster:
    """A snapshot, and the addresses of pods that are no endpoints of their own."""

    snapshot: Snapshot
    on_host: dict[str, Address] = field(default_factory=dict)
    """Pods on their host's network, by namespace/name."""

    def end(self, text: str) -> EndpointId | Address:
        """What `namespace/name` or an address means.

        Raises:
            UnknownEndpoint: the cluster has no such pod.
            ValueError: neither a pod's name nor an address.
        """
        if "/" not in text:
            return ip_address(text)
        if text in self.on_host:
            return self.on_host[text]
        endpoint = EndpointId(text)
        if endpoint not in self.snapshot.endpoints:
            raise UnknownEndpoint(endpoint)
        return endpoint


def of_resources(resources: Iterable[Resource]) -> Cluster:
    """The cluster that these objects are; kinds that verdicts don't depend on are passed over.

    Raises:
        Invalid: an object that can't be understood; the path begins with its kind and name.
    """
    endpoints: dict[EndpointId, Endpoint] = {}
    policies, namespaces, nodes = {}, {}, {}
    on_host: dict[str, Address] = {}
    for resource in resources:
        try:
            match resource:
                case NetworkPolicy():
                    policy = convert(resource)
                    policies[policy.key] = policy
                case Namespace():
                    namespaces[resource.name] = resource.metadata.labels
                case Node() | KubernetesNode():
                    nodes[resource.name] = node_addresses(resource)
                case Pod() if resource.spec.host_network:
                    if resource.status.pod_ip:
                        on_host[f"{resource.namespace}/{resource.name}"] = ip_address(resource.status.pod_ip)
                case Pod():
                    endpoint = from_pod(resource)
                    if endpoint is not None:
                        endpoints[endpoint.id] = endpoint
                case WorkloadEndpoint():
                    name = EndpointId(f"{resource.namespace}/{resource.spec.pod}")
                    endpoints[name] = from_workload_endpoint(resource, name)
                case _:
                    pass
        except (Invalid, ValueError) as error:
            raise Invalid(resource.key, str(error)) from None
    return Cluster(Snapshot(endpoints, policies, namespaces, nodes), on_host)
