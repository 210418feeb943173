"""What the controller knows by watching: nodes, who is alive, what blocks name, pools; of each only what it needs.

A block is kept without its owners: which ordinals are taken, for counting, and which nodes it names. With 5,000 blocks
of 64 pods that is a tenth of the memory. Whoever acts on a block lists it again.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from controller.collector import owner_of
from controller.selected import Selected
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ipblock import Allocation, IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kubernetes import Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone
from ipam.claims import Claims
from ipam.reclaim_departed import homes

WATCHED: tuple[type[Resource], ...] = (
    Node,
    Pod,
    WorkloadEndpoint,
    IPBlock,
    IPPool,
    IPReservation,
    ClusterConfiguration,
    NetworkPolicy,
)
_SOMEBODY = Allocation(handle="somebody", id="0" * 16, node="somewhere")


class View:
    """The cluster, as far as it matters here."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.settings = ClusterConfigurationSpec()
        self.selected = Selected()
        self.node_labels: dict[str, Mapping[str, str]] = {}
        self.nodes: dict[str, str] = {}
        """The Nodes by name, with the uid of the Kubernetes Node that each goes with; empty where there is none."""
        self.pools: dict[str, IPPool] = {}
        self.reservations: dict[str, IPReservation] = {}
        self.blocks: dict[str, IPBlock] = {}
        """By name, without owners and history."""
        self._homes: dict[str, frozenset[str]] = {}
        self.counted = False
        """Whether pools' statuses have been made since what they depend on changed last; who makes them sets it."""

    def absent(self) -> frozenset[str]:
        """The names that blocks and endpoints have for nodes, and no Node object has."""
        named = {one.node for one in self.claims.endpoints()}
        return frozenset(named.union(*self._homes.values()) - self.nodes.keys())

    def told(self, kind: type[Resource]) -> tuple[Callable[[Sequence[Resource]], None], Callable[..., None]]:
        """What a `KindSync` of a kind calls: for a listing, and for changes."""
        return (lambda listed: self._listed(kind, listed)), (lambda changes: self._changed(kind, changes))

    def _listed(self, kind: type[Resource], listed: Sequence[Resource]) -> None:
        if kind is Pod or kind is WorkloadEndpoint:
            pods = [one for one in listed if isinstance(one, Pod | WorkloadEndpoint)]
            self.claims.replace(kind, pods)
            self.selected.replace_pods(kind, pods)
            return
        if kind is NetworkPolicy:
            self.selected.replace_policies(one for one in listed if isinstance(one, NetworkPolicy))
            return
        names = {one.name for one in listed}
        gone = [Gone("", name) for name in self._names(kind) if name not in names]
        self._changed(kind, [*gone, *listed])

    def _names(self, kind: type[Resource]) -> list[str]:
        known: dict[type[Resource], Iterable[str]] = {
            Node: self.nodes,
            IPPool: self.pools,
            IPReservation: self.reservations,
            IPBlock: self.blocks,
            ClusterConfiguration: ("default",),
        }
        return list(known[kind])

    def _changed(self, kind: type[Resource], changes: Iterable[Resource | Gone]) -> None:
        for change in changes:
            if isinstance(change, Gone):
                self._remove(kind, change)
            else:
                self._set(change)
        self.counted = self.counted and kind not in (IPPool, IPReservation, IPBlock)

    def _set(self, resource: Resource) -> None:
        match resource:
            case Pod() | WorkloadEndpoint():
                self.claims.set(resource)
                self.selected.set_pod(resource)
            case NetworkPolicy():
                self.selected.set_policy(resource)
            case Node():
                self.nodes[resource.name] = owner_of(resource)
                self.counted = self.counted and self.node_labels.get(resource.name) == resource.metadata.labels
                self.node_labels[resource.name] = resource.metadata.labels
            case IPBlock():
                self.blocks[resource.name] = _without_owners(resource)
                self._homes[resource.name] = homes(resource)
            case IPPool():
                self.pools[resource.name] = resource
            case IPReservation():
                self.reservations[resource.name] = resource
            case ClusterConfiguration():
                self.settings = resource.spec
            case _:
                pass

    def _remove(self, kind: type[Resource], gone: Gone) -> None:
        if kind is Pod or kind is WorkloadEndpoint:
            self.claims.remove(kind, gone)
            self.selected.remove_pod(kind, gone)
        elif kind is NetworkPolicy:
            self.selected.remove_policy(gone)
        elif kind is ClusterConfiguration:
            self.settings = ClusterConfigurationSpec()
        elif kind is Node:
            self.nodes.pop(gone.name, None)
            self.node_labels.pop(gone.name, None)
            self.counted = False
        elif kind is IPBlock:
            self.blocks.pop(gone.name, None)
            self._homes.pop(gone.name, None)
        elif kind is IPPool:
            self.pools.pop(gone.name, None)
        elif kind is IPReservation:
            self.reservations.pop(gone.name, None)


def _without_owners(block: IPBlock) -> IPBlock:
    taken = dict.fromkeys(map(sys.intern, block.spec.allocations), _SOMEBODY)
    spec = msgspec.structs.replace(block.spec, allocations=taken, released=(), history=())
    return msgspec.structs.replace(block, spec=spec)
