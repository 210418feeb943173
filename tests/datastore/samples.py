"""Resources and documents that tests are made of."""

from ipaddress import ip_network

from datastore.resources.ipblock import Allocation, IPBlock, IPBlockSpec, block_name, cell_of
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint, WorkloadEndpointSpec

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
    return NetworkPolicy(metadata=Metadata(name=name, namespace=namespace, labels=labels))


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
