"""One look at a cluster, whatever its datastore: what the store says, and whoever else can be asked from here."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from controller.leader import NAME
from ctl.installation import NAMESPACE
from ctl.location import Location
from ctl.status import asked, cluster
from ctl.status.seen import Agent, Installation, Machine, Seen, SeenNode, SeenPool
from datastore.errors import NotFound
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.requests import requests
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolStatus
from datastore.resources.ipreservation import IPReservation
from datastore.resources.lease import Lease
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.store import Reader
from datastore.urls import parse
from ipam.handles import is_attachments
from ipam.pools import faults
from ipam.usage import usage

_LEASES_IN = "kube-system"
"""Where a controller has its Lease unless it is told otherwise."""


async def look(location: Location, namespace: str = NAMESPACE, state: Path | None = None) -> Seen:
    """Everything that can be seen now.

    Raises:
        StoreError: the datastore can't be read.
        Failure: there is none.
    """
    location.check_there()
    address = parse(location.url)
    async with location.store() as store:
        nodes, blocks = (await store.list(Node)).items, (await store.list(IPBlock)).items
        pools = await _pools(store, blocks)
        policies = (await store.list(NetworkPolicy)).items
        leader, silent_s = await _leader(store, (namespace, _LEASES_IN))
    if isinstance(address, KubernetesAddress):
        async with requests(address) as api:
            there = await cluster.look(api, namespace)
        agents, installation = there.agents, Installation(namespace, there.daemonset, there.skews)
    else:
        there, installation = cluster.Cluster({}), None
        agents = await asyncio.to_thread(asked.agents, location, policies, state)
    return Seen(
        datastore=address.description,
        nodes=_nodes(nodes, blocks, agents, there.machines),
        pools=pools,
        policies=len(policies),
        leader=leader,
        leader_silent_s=silent_s,
        installation=installation,
        lab=location.lab() is not None,
        notes=there.notes,
    )


def _nodes(
    nodes: Sequence[Node], blocks: Sequence[IPBlock], agents: Mapping[str, Agent], machines: Mapping[str, Machine]
) -> tuple[SeenNode, ...]:
    ours = {node.name: node for node in nodes}
    handles = {(one.node, one.handle) for block in blocks for one in block.spec.allocations.values()}
    pods = Counter(node for node, handle in handles if is_attachments(handle))
    return tuple(
        SeenNode(
            name,
            known=name in ours,
            addresses=ours[name].spec.addresses if name in ours else (),
            blocks=len(ours[name].spec.blocks) if name in ours else 0,
            pods=pods[name],
            agent=agents.get(name),
            machine=machines.get(name),
        )
        for name in sorted(ours.keys() | agents.keys() | machines.keys())
    )


async def _pools(store: Reader, blocks: Sequence[IPBlock]) -> tuple[SeenPool, ...]:
    pools = sorted((await store.list(IPPool)).items, key=lambda one: one.name)
    counted = usage(pools, blocks, (await store.list(IPReservation)).items)
    wrong = faults(pools)
    return tuple(
        SeenPool(
            pool.name,
            pool.spec.cidr,
            pool.spec.disabled,
            wrong.get(pool.name, ""),
            counted.get(pool.name, IPPoolStatus()),
        )
        for pool in pools
    )


async def _leader(store: Reader, namespaces: Sequence[str]) -> tuple[str, float]:
    """Who leads, and for how long nothing was heard of it."""
    for namespace in dict.fromkeys(namespaces):
        with suppress(NotFound):
            lease = await store.get(Lease, NAME, namespace)
            if lease.spec.holder_identity:
                return lease.spec.holder_identity, _silent_s(lease.spec.renew_time)
    return "", 0.0


def _silent_s(renewed: str | None) -> float:
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(renewed or "")).total_seconds())
    except (ValueError, TypeError):
        return 0.0
