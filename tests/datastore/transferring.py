"""Stores with content, and moves between them that pause for nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ippool import IPPool, IPPoolSpec, IPPoolStatus
from datastore.resources.kinds import KINDS
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod, ServiceAccount
from datastore.resources.lease import Lease
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata, Resource
from datastore.store import Store
from datastore.transfer import mark
from datastore.transfer.copying import Side
from datastore.transfer.migrate import Moved, migrate
from datastore.transfer.objects import same
from tests.datastore.faulty import Call, Fate
from tests.datastore.samples import endpoint, ip_block, policy

R = TypeVar("R", bound=Resource)

FROM, TO = "memory:from", "memory:to"


def metadata(name: str, namespace: str = "", **annotations: str) -> Metadata:
    return Metadata(name=name, namespace=namespace, annotations=annotations)


def pool(name: str = "blue", cidr: str = "10.65.0.0/16") -> IPPool:
    return IPPool(metadata=metadata(name), spec=IPPoolSpec(cidr=cidr), status=IPPoolStatus(used=7))


EVERYTHING: tuple[Resource, ...] = (
    pool(),
    ip_block(borrowers=("node-2",)),
    Node(metadata=metadata("node-1"), spec=NodeSpec(machine="m1")),
    endpoint("web"),
    policy(),
    Namespace(metadata=Metadata(name="shop", labels={"a": "b"})),
    ServiceAccount(metadata=metadata("web", "shop")),
    Pod(metadata=Metadata(name="web", namespace="shop", uid="u1")),
    KubernetesNode(metadata=metadata("node-1")),
    ClusterConfiguration(metadata=metadata("default"), spec=ClusterConfigurationSpec(strict_affinity=True)),
)


async def filled(*resources: Resource) -> MemoryStore:
    store = MemoryStore()
    for one in resources:
        await store.create(one)
    return store


async def content(store: Store) -> dict[str, Resource]:
    """Everything but the configuration and leases, by key."""
    kinds = [kind for kind in KINDS if kind not in (ClusterConfiguration, Lease)]
    return {f"{kind.KIND.full_name} {one.key}": one for kind in kinds for one in (await store.list(kind)).items}


async def alike(source: Store, target: Store) -> bool:
    ours, theirs = await content(source), await content(target)
    return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


def untold(_: str) -> None:
    pass


async def move(source: Store, target: Store, source_url: str = FROM, target_url: str = TO) -> Moved:
    return await migrate(Side(source, source_url), Side(target, target_url), untold, pause=no_pause)


async def phase(store: Store) -> str:
    migration = mark.migration_of(await mark.read(store))
    return migration.phase if migration is not None else ""


def leaves(call: Call) -> bool:
    """Whether a call is the one that leaves the source."""
    migration = mark.migration_of(call.resource) if isinstance(call.resource, ClusterConfiguration) else None
    return call.verb == "update" and migration is not None and migration.phase == mark.MOVED


def refused_from(verb: str) -> Callable[[Call], Awaitable[Fate]]:
    async def gate(call: Call) -> Fate:
        return Fate.REFUSED if call.verb == verb else Fate.OK

    return gate
