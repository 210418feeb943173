"""A healthy cluster of two nodes, as values, for tests that break one thing of it."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import TypeVar

import msgspec

from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import Allocation, IPBlock, IPBlockSpec, block_name, cell_of
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.kubernetes import Pod, PodSpec, PodStatus
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata, Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint, WorkloadEndpointSpec

R = TypeVar("R", bound=Resource)

NOW = 1_700_000_000.0
LONG_AGO = NOW - 3600


def allocation(pod: str, node: str, *, container: str = "", since: float = LONG_AGO, **more: str | bool) -> Allocation:
    """What the interface eth0 of a pod in namespace shop owns."""
    found = Allocation(
        handle=f"podnet:{container or 'c-' + pod}:eth0",
        id=f"{sum(map(ord, pod + container)):016x}",
        pod=pod,
        namespace="shop",
        node=node,
        since=since,
    )
    return msgspec.structs.replace(found, **more)


def block(cidr: str, node: str, *owners: Allocation, pool: str = "blue", machine: str = "") -> IPBlock:
    """A ready block whose first ordinals belong to `owners`."""
    network = ip_network(cidr)
    spec = IPBlockSpec(
        cidr=cidr,
        pool=pool,
        cell=str(cell_of(network)),
        node=node,
        machine=machine or f"machine-{node}",
        ready=True,
        claimed_at=LONG_AGO,
        allocations={str(ordinal): owner for ordinal, owner in enumerate(owners)},
        fresh=len(owners),
    )
    return IPBlock(metadata=Metadata(name=block_name(network)), spec=spec)


def pool(name: str = "blue", cidr: str = "10.65.0.0/16", block_size: int | None = None) -> IPPool:
    return IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, block_size=block_size))


def node(name: str, *blocks: str, borrowed: tuple[str, ...] = (), pod_cidrs: tuple[str, ...] = ()) -> Node:
    spec = NodeSpec(machine=f"machine-{name}", blocks=blocks, borrowed=borrowed, pod_cidrs=pod_cidrs)
    return Node(metadata=Metadata(name=name), spec=spec)


def endpoint(pod: str, node: str, *addresses: str, container: str = "") -> WorkloadEndpoint:
    spec = WorkloadEndpointSpec(
        node=node,
        pod=pod,
        container_id=container or f"c-{pod}",
        network="podnet",
        interface="eth0",
        host_interface="tort0123456789a",
        addresses=addresses,
    )
    return WorkloadEndpoint(metadata=Metadata(name=f"{pod}-{container or 'c'}", namespace="shop"), spec=spec)


def kubernetes_pod(name: str, node: str, address: str = "", *, phase: str = "Running", uid: str = "") -> Pod:
    metadata = Metadata(name=name, namespace="shop", uid=uid)
    return Pod(metadata=metadata, spec=PodSpec(node_name=node), status=PodStatus(phase=phase, pod_ip=address))


class Objects:
    """What is in the cluster, by key."""

    def __init__(self, *resources: Resource) -> None:
        self.by_key = {resource.key: resource for resource in resources}

    def put(self, *resources: Resource) -> "Objects":
        """The same with these, in the place of those of their names."""
        return Objects(*{**self.by_key, **{one.key: one for one in resources}}.values())

    def without(self, *keys: str) -> "Objects":
        return Objects(*(one for key, one in self.by_key.items() if key not in keys))

    def changed(self, key: str, change: Callable[[object], object]) -> "Objects":
        """The same with another spec in the object of this key."""
        return self.put(msgspec.structs.replace(self.by_key[key], spec=change(self.by_key[key].spec)))  # type: ignore[attr-defined]

    def of(self, kind: type[R]) -> list[R]:
        return [one for one in self.by_key.values() if isinstance(one, kind)]


FIRST, SECOND = "10.65.0.0/26", "10.65.0.64/26"
FIRST_BLOCK, SECOND_BLOCK = "IPBlock 10-65-0-0-26", "IPBlock 10-65-0-64-26"


def healthy() -> Objects:
    """node-1 has web (10.65.0.0) and api (.1), node-2 has db (.64) and cache (.2, borrowed); .3 was taken by hand."""
    by_hand = Allocation(handle="manual/printer", id="f" * 16, node="node-1", since=LONG_AGO)
    return Objects(
        pool(),
        node("node-1", FIRST),
        node("node-2", SECOND, borrowed=("10.65.0.2",)),
        block(
            FIRST,
            "node-1",
            allocation("web", "node-1"),
            allocation("api", "node-1"),
            allocation("cache", "node-2"),
            by_hand,
        ),
        block(SECOND, "node-2", allocation("db", "node-2")),
        endpoint("web", "node-1", "10.65.0.0"),
        endpoint("api", "node-1", "10.65.0.1"),
        endpoint("cache", "node-2", "10.65.0.2"),
        endpoint("db", "node-2", "10.65.0.64"),
        ClusterConfiguration(metadata=Metadata(name="default")),
    )
