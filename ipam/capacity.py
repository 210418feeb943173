"""What a cluster of some size would make of its pools: the allocator itself, on a store in memory and a virtual clock.

Pods start until there are as many as wanted, then end and start again at the churn asked for. Each goes to the less
loaded of two nodes drawn at random, which spreads them much as a scheduler does. One thing happens after the other, so
writes aren't shared as they would be in a burst: what is counted is the most.

The same seed gives the same outcome to the last address.
"""

import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TypeVar

from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.resources.value import Metadata, Resource
from datastore.store import Batch, Listing, Revision, Where
from ipam.allocator import Allocator, Wanted
from ipam.block import Block, Held, Owner
from ipam.errors import NoAddress, NoPool
from ipam.handles import Hold
from ipam.pools import Asker, Catalogue
from ipam.settings import Settings

R = TypeVar("R", bound=Resource)

_START = 1_000_000_000.0
_UPKEEP_S = 60.0
"""Between looks of a node for blocks to give back, as its agent does."""
_SAMPLES = 10
"""Moments at which the whole is looked at for its peaks."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be tried."""

    nodes: int
    pods: int
    churn: float = 0
    """Pods that end, and as many that start, a second."""
    seconds: float = 600
    seed: int = 0
    pools: tuple[IPPool, ...] = ()
    reservations: tuple[IPReservation, ...] = ()
    configuration: ClusterConfigurationSpec = field(default_factory=ClusterConfigurationSpec)
    node_labels: tuple[Labels, ...] = ({},)
    """Taken in turn, as namespaces' are."""
    namespace_labels: tuple[Labels, ...] = ({},)


@dataclass(frozen=True, slots=True)
class Occupation:
    """How full one pool is at one moment."""

    pool: str
    blocks: int
    blocks_at_most: int
    used: int
    borrowed: int
    in_blocks: int
    """Addresses of its blocks, used or not."""


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    assigns: int = 0
    releases: int = 0
    refused: int = 0
    """Pods that got no address."""
    first_refused_s: float | None = None
    """When the first was refused, after so many seconds of pods that come and go; 0: while they were first started."""
    assign_writes: int = 0
    assign_reads: int = 0
    release_writes: int = 0
    at_end: tuple[Occupation, ...] = ()
    peak_blocks: int = 0
    peak_borrowed: float = 0
    """The largest share of the used addresses."""
    most_blocks_of_a_node: int = 0


async def simulate(plan: Plan) -> Outcome:
    """Try a plan."""
    return await _Simulation(plan).run()


class _Counting:
    """A store that counts what it is asked; the only one of many nodes."""

    def __init__(self) -> None:
        self.inner = MemoryStore(keep=1)
        self.writes = 0
        self.reads = 0

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        self.reads += 1
        return await self.inner.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        self.reads += 1
        return await self.inner.list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        return self.inner.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        self.writes += 1
        return await self.inner.create(resource)

    async def update(self, resource: R) -> R:
        self.writes += 1
        return await self.inner.update(resource)

    async def delete(self, resource: Resource) -> None:
        self.writes += 1
        await self.inner.delete(resource)

    async def close(self) -> None:
        await self.inner.close()


@dataclass(slots=True)
class _Pod:
    node: int
    held: tuple[Held, ...]


class _Simulation:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._store = _Counting()
        self._now = _START
        self._random = random.Random(plan.seed)  # noqa: S311  # no secret: it must be the same again
        self._nodes: list[Allocator] = []
        self._load: list[int] = [0] * plan.nodes
        self._pods: list[_Pod] = []
        self._started = 0
        self._outcome = Outcome()
        catalogue = Catalogue(plan.pools)
        served = tuple(version for version in (4, 6) if _serves(catalogue, version, plan))
        self._families = served or (4,)  # and each pod is refused

    async def run(self) -> Outcome:
        """Everything, in its order."""
        plan = self._plan
        await self._prepare()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            for _ in range(plan.pods):
                await self._start(null)
            await self._sample()
            events = round(plan.churn * plan.seconds)
            upkeep = _START + _UPKEEP_S
            for number in range(events):
                self._now = _START + (number + 1) * plan.seconds / events
                await self._end()
                await self._start(null)
                if self._now >= upkeep:
                    upkeep += _UPKEEP_S
                    await self._give_back()
                if number % (events // _SAMPLES + 1) == 0:
                    await self._sample()
            self._outcome.at_end = await self._sample()
        finally:
            os.close(null)
            await self._store.close()
        return self._outcome

    async def _prepare(self) -> None:
        plan = self._plan
        for one in (*plan.pools, *plan.reservations):
            await self._store.create(one)
        await self._store.create(ClusterConfiguration(metadata=Metadata(name=NAME), spec=plan.configuration))
        for number in range(plan.nodes):
            node = Allocator(
                self._store,
                f"node-{number}",
                f"machine-{number}",
                clock=lambda: self._now,
                draw=_ids(f"{plan.seed} {number}"),
                pause=_no_pause,
            )
            node.set_pools(plan.pools)
            node.set_reservations(plan.reservations)
            node.settings = Settings.of(plan.configuration)
            node.node_labels = plan.node_labels[number % len(plan.node_labels)]
            self._nodes.append(node)

    async def _start(self, null: int) -> None:
        one, other = (self._random.randrange(len(self._nodes)) for _ in range(2))
        place = one if self._load[one] <= self._load[other] else other
        number, self._started = self._started, self._started + 1
        owner = Owner(f"podnet:c{number}:eth0", f"node-{place}", f"pod-{number}", "simulated")
        labels = self._plan.namespace_labels[number % len(self._plan.namespace_labels)]
        hold = Hold(owner.handle, null, os.devnull, 0)
        writes, reads = self._store.writes, self._store.reads
        held: tuple[Held, ...] = ()
        try:
            held = await self._nodes[place].assign(owner, Wanted(self._families, namespace_labels=labels), hold)
            self._outcome.assigns += 1
            self._outcome.assign_writes += self._store.writes - writes
            self._outcome.assign_reads += self._store.reads - reads
        except (NoAddress, NoPool):
            self._outcome.refused += 1
            if self._outcome.first_refused_s is None:
                self._outcome.first_refused_s = self._now - _START
        self._pods.append(_Pod(place, held))
        self._load[place] += 1

    async def _end(self) -> None:
        if not self._pods:
            return
        place = self._random.randrange(len(self._pods))
        self._pods[place], self._pods[-1] = self._pods[-1], self._pods[place]
        pod = self._pods.pop()
        self._load[pod.node] -= 1
        writes = self._store.writes
        if pod.held:
            await self._nodes[pod.node].release(pod.held)
            self._outcome.releases += 1
            self._outcome.release_writes += self._store.writes - writes

    async def _give_back(self) -> None:
        for node in self._nodes:
            await node.give_back(_withdrawn)

    async def _sample(self) -> tuple[Occupation, ...]:
        """How full it is now, with the peaks noted."""
        blocks = [Block.read(record) for record in (await self._store.inner.list(IPBlock)).items]
        occupations = tuple(_occupation(pool, blocks) for pool in self._plan.pools)
        used, borrowed = sum(one.used for one in occupations), sum(one.borrowed for one in occupations)
        outcome = self._outcome
        outcome.peak_blocks = max(outcome.peak_blocks, len(blocks))
        outcome.peak_borrowed = max(outcome.peak_borrowed, borrowed / used if used else 0)
        of_nodes = Counter((block.record.spec.node, block.network.version) for block in blocks)
        outcome.most_blocks_of_a_node = max(outcome.most_blocks_of_a_node, *of_nodes.values(), 0)
        return occupations


def _ids(seed: str) -> Callable[[], str]:
    drawn = random.Random(seed)  # noqa: S311  # no secrets: they must be the same again
    return lambda: f"{drawn.getrandbits(64):016x}"


def _serves(catalogue: Catalogue, version: int, plan: Plan) -> bool:
    """Whether some node's pods of some namespace have a pool of a family."""
    for node_labels in plan.node_labels:
        for namespace_labels in plan.namespace_labels:
            try:
                catalogue.eligible(version, asker=Asker(node_labels=node_labels, namespace_labels=namespace_labels))
            except NoPool:
                continue
            return True
    return False


def _occupation(pool: IPPool, blocks: Sequence[Block]) -> Occupation:
    network = ip_network(pool.spec.cidr)
    own = [block for block in blocks if block.record.spec.pool == pool.name]
    allocations = [(block.record.spec.node, one) for block in own for one in block.record.spec.allocations.values()]
    return Occupation(
        pool.name,
        len(own),
        1 << (pool.block_prefix_len - network.prefixlen),
        len(allocations),
        sum(1 for node, one in allocations if one.node != node),
        sum(block.network.num_addresses for block in own),
    )


async def _no_pause(_: float) -> None:
    return


async def _withdrawn() -> None:
    return
