"""What a departed node leaves: its endpoints, its pods' addresses, its tunnel ends, its blocks. The controller's part.

A node has departed when its Node object is gone: deleting that says that the machine is gone, too. Everything waits for
the grace, each thing counted from when it first looked so:

    endpoints    WorkloadEndpoints of the node: its agent was their only source, and they would protect addresses
    addresses    of which no live Pod and no endpoint that counts says a word (`ipam.reclaim`)
    blocks       empty, and unchanged for as long as a released address rests

Just before, the Node is asked for again, then endpoints and Pods, all by linearizable reads; each write is a
compare-and-swap on what was judged, and an address goes by its allocation id. Safe whoever else does the same: one who
leads is for load alone.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from datastore.errors import Conflict, NotFound, StoreError
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import Allocation, IPBlock
from datastore.resources.node import Node
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store, Where
from ipam import claims
from ipam.block import Block, Held
from ipam.changes import Release
from ipam.claims import Claimant, Claims
from ipam.errors import IpamError
from ipam.group_commit import BlockWriter, Pause
from ipam.reclaim import Evidence, Grace, Verdict, home_of, judge

log = logging.getLogger(__name__)

AT_ONCE = 1000
"""Addresses freed in one look, at most: a few writes to each of some twenty blocks."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    """An allocation of a departed node."""

    block: Block
    held: Held
    allocation: Allocation
    home: str

    def verdict(self, known: Claims, counts: Callable[[Claimant], bool]) -> Verdict:
        """What is to be thought of it, its home being gone."""
        api = known.of(self.held.address, self.allocation, counts)
        frozen = bool(self.block.record.spec.frozen)
        return judge(Evidence(self.allocation.handle, self.home, None, api, frozen=frozen))


class DepartedReclaim:
    """Looks at what departed nodes left, again and again; `look` it at intervals below the grace."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        pause: Pause = asyncio.sleep,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._tell = tell
        self._told: list[str] = []
        self._wall = wall
        self._pause = pause
        self._nodes: Grace[str] = Grace(clock)
        self._endpoints: Grace[tuple[str, str, str]] = Grace(clock)
        self._addresses: Grace[Held] = Grace(clock)
        self._blocks: Grace[tuple[str, str]] = Grace(clock)

    async def look(self, absent: Collection[str], known: Claims, settings: ClusterConfigurationSpec) -> tuple[str, ...]:
        """Take back what has been ownerless for the grace; tells and gives what was done, in words.

        `absent` are the names that blocks and endpoints have for nodes, and no Node object has; `known` is what a watch
        says of Pods and endpoints. Both only choose: what they miss waits, what they have too much is asked again.

        Raises:
            StoreError: the store can't be read; the next look goes on.
        """
        grace_s = settings.reclaim_grace_seconds
        if settings.migration is not None:
            absent = ()
        absent_s = self._nodes.look(absent, grace_s)
        blocks = [block for node in absent for block in await self._blocks_of(node)]
        endpoints = [one for one in known.endpoints() if one.node in absent_s]
        suspects = {one.held: one for one in _suspects(blocks, absent_s)}
        suspected = [
            held for held, one in suspects.items() if one.verdict(known, lambda who: _counts(who, absent_s)).ownerless
        ]
        empty = {(one.name, one.record.revision): one for one in blocks if _is_left(one, absent_s)}

        old = {node for node, age in absent_s.items() if age >= grace_s}
        by_place = {(one.namespace, one.name, one.node): one for one in endpoints}
        late = [place for place, age in self._endpoints.look(by_place, grace_s).items() if age >= grace_s]
        due = [suspects[held] for held, age in self._addresses.look(suspected, grace_s).items() if age >= grace_s]
        rested_s = max(settings.cooldown_seconds, 0)
        idle = [empty[key] for key, age in self._blocks.look(empty, grace_s).items() if age >= rested_s]

        gone = await self._still_gone({one[2] for one in late} | {one.home for one in due} | old)
        gone_s = {node: absent_s[node] for node in gone if node in old}
        self._told = []
        for place in [one for one in late if one[2] in gone_s][:AT_ONCE]:
            await self._forget(*place, gone_s)
        await self._free([one for one in due if one.home in gone_s][:AT_ONCE], gone_s)
        for block in [one for one in idle if one.record.spec.node in gone_s]:
            await self._delete(block, gone_s)
        return tuple(self._told)

    async def _blocks_of(self, node: str) -> list[Block]:
        return [Block.read(record) for record in (await self._store.list(IPBlock, Where("node", node))).items]

    async def _still_gone(self, nodes: Iterable[str]) -> set[str]:
        gone = set()
        for node in sorted(nodes):
            try:
                await self._store.get(Node, node)
            except NotFound:
                gone.add(node)
        return gone

    async def _forget(self, namespace: str, name: str, node: str, gone_s: Mapping[str, float]) -> None:
        """Delete an endpoint that is still a departed node's."""
        try:
            found = await self._store.get(WorkloadEndpoint, name, namespace)
            if found.spec.node != node:
                return
            await self._store.delete(found)
        except StoreError as error:
            _waits(f"endpoint {namespace}/{name}", error)
        else:
            self._say(f"deleted endpoint {namespace}/{name}: {_departed(node, gone_s)}")

    async def _free(self, due: list[_Suspect], gone_s: Mapping[str, float]) -> None:
        if not due:
            return
        fresh = await claims.read(self._store)
        verdicts = [(one, one.verdict(fresh, lambda _: True)) for one in due]
        writers = {one.block.name: BlockWriter(self._store, one.block, self._pause) for one in due}
        ownerless = [(one, verdict) for one, verdict in verdicts if verdict.ownerless]
        frees = [writers[one.block.name].submit(Release(one.held, self._wall())) for one, _ in ownerless]
        outcomes = await asyncio.gather(*frees, return_exceptions=True)
        for (one, verdict), outcome in zip(ownerless, outcomes, strict=True):
            if isinstance(outcome, StoreError | IpamError):
                _waits(f"address {one.held.address}", outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                why = f"{_departed(one.home, gone_s)}, {verdict.reason}"
                self._say(f"reclaimed {told(one.held, one.allocation)}: {why}")

    async def _delete(self, block: Block, gone_s: Mapping[str, float]) -> None:
        try:
            await self._store.delete(block.record)
        except StoreError as error:
            _waits(f"block {block.network}", error)
        else:
            self._say(f"deleted block {block.network}, which is empty: {_departed(block.record.spec.node, gone_s)}")

    def _say(self, line: str) -> None:
        self._told.append(line)
        self._tell(line)


async def absent_nodes(store: Store) -> frozenset[str]:
    """The names that blocks and endpoints have for nodes, and no Node object has, all listed afresh.

    Raises:
        StoreError: the store can't be read.
    """
    named = {endpoint.spec.node for endpoint in (await store.list(WorkloadEndpoint)).items}
    for block in (await store.list(IPBlock)).items:
        named |= homes(block)
    return frozenset(named - {node.name for node in (await store.list(Node)).items})


def homes(block: IPBlock) -> frozenset[str]:
    """The nodes that a block and its allocations live and die with."""
    spec = block.spec
    return frozenset({spec.node, *(home_of(found.handle, found.node) for found in spec.allocations.values())})


def told(held: Held, allocation: Allocation) -> str:
    """An allocation, for people: `10.65.0.7 of shop/web (uid 1f2e)`."""
    who = f"{allocation.namespace}/{allocation.pod}" if allocation.pod else allocation.handle
    return f"{held.address} of {who}" + (f" (uid {allocation.uid})" if allocation.uid else "")


def _suspects(blocks: Iterable[Block], absent: Collection[str]) -> Iterable[_Suspect]:
    for block in blocks:
        for ordinal, allocation in block.record.spec.allocations.items():
            home = home_of(allocation.handle, allocation.node)
            if home in absent:
                yield _Suspect(block, block.held(int(ordinal)), allocation, home)


def _counts(claimant: Claimant, absent: Collection[str]) -> bool:
    """Whether a claimant may outlive the departed nodes: their endpoints are about to be deleted themselves."""
    return claimant.kind is not WorkloadEndpoint or claimant.node not in absent


def _is_left(block: Block, absent: Collection[str]) -> bool:
    spec = block.record.spec
    return spec.node in absent and block.empty and not spec.frozen


def _waits(what: str, error: StoreError | IpamError) -> None:
    """What failed is looked at again; what has gone or moved on meanwhile is nothing to tell."""
    level = logging.DEBUG if isinstance(error, NotFound | Conflict) else logging.WARNING
    log.log(level, "%s waits for the next look: %s", what, error)


def _departed(node: str, gone_s: Mapping[str, float]) -> str:
    return f"node {node} departed {gone_s[node]:.0f} s ago"
