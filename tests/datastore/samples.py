"""Resources and documents that tests are made of."""

from ipaddress import ip_network
from typing import TypeVar

import msgspec

from datastore.resources.ipblock import Allocation, IPBlock, IPBlockSpec, block_name, cell_of
from datastore.resources.networkpolicy import NetworkPolicy, NetworkPolicySpec
from datastore.resources.value import Metadata, Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint, WorkloadEndpointSpec

R = TypeVar("R", bound=Resource)

Document = dict[str, object]


def allocation(node: str = "node-1", number: int = 0) -> Allocation:
    return Allocation(
        handle=f"podnet/c{number}/eth0", id=f"{number:016x}", pod=f"p{number}", namespace="shop", node=node
    )


def ip_block(cidr: str = "10.65.0.64/26", node: str = "node-1", borrowers: tuple[str, ...] = ()) -> IPBlock:
    """A ready block whose first ordinals belong to pods of `borrowers`."""
    network = ip_network(cidr)
    return IPBlock(
        metadata=Metadata(name=block_name(network)),
        spec=IPBlockSpec(
            cidr=cidr,
            pool="default-ipv4",
            cell=str(cell_of(network)),
            node=node,
            ready=True,
            allocations={str(number): allocation(name, number) for number, name in enumerate(borrowers)},
            fresh=len(borrowers),
        ),
    )


def endpoint(name: str, node: str = "node-1", namespace: str = "shop") -> WorkloadEndpoint:
    return WorkloadEndpoint(
        metadata=Metadata(name=name, namespace=namespace),
        spec=WorkloadEndpointSpec(
            node=node, pod=name, container_id="c1", network="podnet", interface="eth0", host_interface="tort0123456789a"
        ),
    )


def policy(name: str = "db", namespace: str = "shop", **labels: str) -> NetworkPolicy:
    """With all that the Kubernetes API would fill in, so that every store gives it back as it was."""
    spec = NetworkPolicySpec(policy_types=("Ingress",))
    return NetworkPolicy(metadata=Metadata(name=name, namespace=namespace, labels=labels), spec=spec)


def relabelled(resource: R, **labels: str) -> R:
    """The same object at the same revision, with other labels."""
    metadata = msgspec.structs.replace(resource.metadata, labels=labels)
    return msgspec.structs.replace(resource, metadata=metadata)


def at_revision(resource: R, revision: str) -> R:
    metadata = msgspec.structs.replace(resource.metadata, resource_version=revision)
    return msgspec.structs.replace(resource, metadata=metadata)


def moved(resource: WorkloadEndpoint, node: str) -> WorkloadEndpoint:
    return msgspec.structs.replace(resource, spec=msgspec.structs.replace(resource.spec, node=node))


def policy_document() -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [
                {
                    "from": [
                        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}
                    ],
                    "ports": [{"port": 5432}, {"protocol": "UDP", "port": "dns", "endPort": None}],
                }
            ],
        },
    }
