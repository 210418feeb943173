"""Giving, adopting and taking back addresses for one node.

    assign   1. what the handle has already is adopted: a CAS that writes a new id, so every older id is void
             2. a block of this node with room
             3. a new block (`ipam.claim`)
             4. unless affinity is strict, an address of another node's block (borrowed)
    release  by (block, ordinal, id), or everything of a handle, looked up by a fresh list

Every choice that was made on a stale mirror loses its compare-and-swap and is made again. What the mirror is never used
for is to say that a handle has nothing: a handle whose last holder left an intent is looked up afresh.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import Allocation, IPBlock
from datastore.resources.ippool import IPPool
from datastore.store import Store
from ipam.block import Address, Among, Block, Held, Network, Owner
from ipam.changes import Adopt, Assign, Release
from ipam.claim import Claimer
from ipam.errors import AddressTaken, BlockFull, Migrating, NoAddress, NoPool, NotSettled, OutsidePools
from ipam.group_commit import BlockWriter, Moved, Pause
from ipam.handles import Hold
from ipam.mirror import Mirror
from ipam.pools import Pool, candidates, cells, eligible

T = TypeVar("T")
DEFAULT_COOLDOWN_S = 30.0
"""How long a released address rests: as long as an unanswered UDP flow lives in conntrack."""
IDLE_S = 300.0
"""How long a block must have been empty before it is given back."""
_TRIES = 40
"""Choices of a block before an assign gives up; each one was lost to somebody else's progress."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The families asked for, each with the pools it may come from (names or CIDRs; none: every enabled pool)."""

    families: tuple[int, ...]
    pools: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    among: Mapping[int, Among] = field(default_factory=dict)
    """By family, where not any address of those pools will do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator sets (ClusterConfiguration)."""

    strict_affinity: bool = False
    cooldown_s: float = DEFAULT_COOLDOWN_S
    migration: str = ""
    """The migration to another datastore that is under way: no block is claimed."""

    @classmethod
    def of(cls, spec: ClusterConfigurationSpec) -> "Settings":
        """What an object of the store says."""
        migration = spec.migration.id if spec.migration is not None else ""
        return cls(spec.strict_affinity, spec.cooldown_seconds, migration)


def draw_id() -> str:
    """A new allocation id: 64 random bits as 16 hex digits."""
    return secrets.token_hex(8)


class Allocator:
    """The addresses of one node; `load` it first."""

    def __init__(
        self,
        store: Store,
        node: str,
        machine: str,
        *,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], str] = draw_id,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self.settings = Settings()
        self.on_change: Callable[[], None] = lambda: None
        """Called when `networks`, `borrowed` or `on_links` have changed."""
        self._told: tuple[frozenset[Network | Address], ...] = (frozenset(), frozenset(), frozenset())
        self._told_at: tuple[int, frozenset[str]] = (0, frozenset())
        self._store = store
        self._clock = clock
        self._draw = draw
        self._mirror = Mirror(store, node, machine, pause)
        self._claimer = Claimer(store, self._mirror, clock, pause)
        self._pools: tuple[IPPool, ...] | None = None
        self._closing: frozenset[str] = frozenset()
        """Blocks on their way back, from which nothing is given."""
        self._claiming = {4: asyncio.Lock(), 6: asyncio.Lock()}

    async def load(self) -> None:
        """Read this node's blocks, and those it borrows from.

        Raises:
            StoreError: the store can't be read.
        """
        await self._mirror.list_mine()
        self._tell()

    def set_pools(self, pools: Iterable[IPPool]) -> None:
        """The pools as a watch last saw them; without any, and where they don't suffice, the store is asked."""
        self._pools = tuple(pools)

    def networks(self) -> frozenset[Network]:
        """The blocks that are to be routed to this node."""
        closing = {block.network for block in self._mirror.blocks() if block.name in self._closing}
        return self._mirror.index.networks - closing

    def on_links(self) -> frozenset[Network]:
        """Those of this node's blocks that have an address on another plugin's link: its route leads there."""
        return self._mirror.index.on_links

    def borrowed(self) -> frozenset[Address]:
        """This node's addresses in other nodes' blocks."""
        return self._mirror.index.borrowed

    def allocations(self) -> list[tuple[Held, Allocation]]:
        """Everything that the mirror says this node has, in its own blocks and in others'."""
        return [
            (block.held(int(ordinal)), allocation)
            for block in self._mirror.blocks()
            for ordinal, allocation in block.record.spec.allocations.items()
            if allocation.node == self._mirror.node
        ]

    async def assign(self, owner: Owner, wanted: Wanted, hold: Hold, *, again: bool = False) -> tuple[Held, ...]:
        """One address of each family wanted, persisted; all of them or none.

        What the handle had before stays its own, adopted, also when another family fails: `hold` stays uncertain then,
        as it does whenever an outcome isn't known, and the next look-up of the handle is a fresh one. With `again` this
        one is fresh, too: the handle may have what another process gave it.

        Raises:
            NoPool, NoAddress, OutsidePools, AddressTaken: and nothing new was assigned.
            Frozen, Migrating: the datastore is being left for another; nothing new was assigned.
            NotSettled: perhaps assigned.
            StoreError: the store can't be used.
        """
        pools = await self._eligible(wanted)
        known = await self.find(owner.handle) if hold.uncertain or again else self._mirror.of_handle(owner.handle)
        hold.intend()
        tries = [
            self._assign_family(owner, family, pools[family], known, wanted.among.get(family))
            for family in wanted.families
        ]
        outcomes = await _outcomes(tries)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        given = tuple(outcome for outcome in outcomes if isinstance(outcome, Held))
        self._tell()
        if not failures:
            return given
        had = {one.address for one in known}
        await self.release(one for one in given if one.address not in had)
        if not had and not any(isinstance(failure, NotSettled) for failure in failures):
            hold.settle()
        raise failures[0]

    async def adopt(self, owner: Owner, held: Held) -> Held | None:
        """Give `owner` a new id for an address that its handle has, whatever pod and node stand there; None: it hasn't.

        Raises:
            StoreError, NotSettled: the store can't be used; perhaps it was done.
        """
        try:
            return await self._adopt(owner, held)
        except Moved:
            return None
        finally:
            self._tell()

    async def release(self, held: Iterable[Held], *, certain: bool = True) -> None:
        """Free allocations by id; what has gone already, or belongs to another by now, is left alone.

        With `certain` false the write that made them was lost and may still land: a write on the block is won, so
        that it can't any more.

        Raises:
            Frozen: the datastore is being left for another; try again later.
            StoreError, NotSettled: the store can't be used; try again later.
        """
        outcomes = await _outcomes([self._release_one(one, certain) for one in held])
        self._tell()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def release_handle(self, handle: str) -> tuple[Held, ...]:
        """Free whatever a handle has, as a fresh list shows it; gives what was freed.

        Raises:
            Frozen: the datastore is being left for another; try again later.
            StoreError, NotSettled: the store can't be used; try again later.
        """
        found = await self.find(handle)
        await self.release(found)
        return found

    async def find(self, handle: str) -> tuple[Held, ...]:
        """What a handle has, by a fresh list.

        Raises:
            StoreError: the store can't be read.
        """
        return tuple(held for block in await self._mirror.list_mine() for held in block.of_handle(handle))

    async def handles(self) -> frozenset[str]:
        """Every handle that has an address by way of this node, by a fresh list.

        Raises:
            StoreError: the store can't be read.
        """
        return frozenset(
            found.handle
            for block in await self._mirror.list_mine()
            for found in block.record.spec.allocations.values()
            if found.node == self._mirror.node
        )

    async def check_room(self, wanted: Wanted) -> None:
        """Return if each family wanted could be given an address now. The store is asked only where this node is full.

        Raises:
            NoPool, OutsidePools, NoAddress, Migrating: it couldn't.
            StoreError: the store can't be read.
        """
        pools = await self._eligible(wanted)
        if self.settings.migration:
            raise Migrating(self.settings.migration)
        for family in wanted.families:
            among = wanted.among.get(family)
            if self._with_room(pools[family], among) is None:
                await self._check_elsewhere(family, pools[family], among)

    async def _check_elsewhere(self, family: int, pools: Sequence[Pool], among: Among | None) -> None:
        blocks = [Block.read(record) for record in (await self._store.list(IPBlock)).items]
        for pool in pools:
            inside = [block for block in blocks if block.network.overlaps(pool.network)]
            size = 1 << (pool.network.max_prefixlen - pool.block_prefix)
            free = pool.network.num_addresses - sum(block.network.num_addresses for block in inside)
            if among is None and free >= size:
                return
            if among is not None and any(True for _ in self._places(pool, among, inside)):
                return
            now, cooldown_s = self._clock(), self.settings.cooldown_s
            for block in () if self.settings.strict_affinity else inside:
                if block.record.spec.ready and pool.holds(block) and block.has_room(now, cooldown_s, 0, among):
                    return
        raise _nothing_left(family, pools, among)

    def _places(self, pool: Pool, among: Among, taken: Sequence[Block]) -> Iterator[Network]:
        """Where a block with some of `among` could be made."""
        for cell in cells(pool, self._mirror.node, among):
            for network in candidates(pool, cell, self._mirror.node, (block.network for block in taken)):
                if among.meets(network):
                    yield network

    async def give_back(self, withdraw: Callable[[], Awaitable[None]]) -> int:
        """Give back blocks that have long been empty; `withdraw` takes them out of the Node first. Gives how many.

        Raises:
            StoreError: the store can't be used; blocks that were not deleted are used again.
        """
        idle = [block for block in self._mirror.blocks() if self._is_idle(block)]
        self._closing = frozenset(block.name for block in idle)
        try:
            if idle:
                self._tell()  # so that a block which is kept after all is told again
                await withdraw()
            return sum([await self._claimer.delete(block) for block in idle])
        finally:
            self._closing = frozenset()
            self._tell()

    def _tell(self) -> None:
        at = self._mirror.index.version, self._closing
        if at == self._told_at:
            return
        self._told_at = at
        now = self.networks(), self.borrowed(), self.on_links()
        if now != self._told:
            self._told = now
            self.on_change()

    async def _eligible(self, wanted: Wanted) -> dict[int, tuple[Pool, ...]]:
        if self._pools is not None:
            with contextlib.suppress(NoPool, OutsidePools):
                return _eligible(self._pools, wanted)
        return _eligible((await self._store.list(IPPool)).items, wanted)

    async def _assign_family(
        self, owner: Owner, family: int, pools: Sequence[Pool], known: Sequence[Held], among: Among | None
    ) -> Held:
        for held in known:
            if held.address.version == family:
                with contextlib.suppress(Moved):
                    return await self._adopt(owner, held)
        for _ in range(_TRIES):
            writer = self._with_room(pools, among) or await self._claim(family, pools, among)
            if writer is None:
                return await self._borrow(owner, family, pools, among)
            with contextlib.suppress(BlockFull, Moved):
                return await self._assign_in(writer, owner, among)
        raise _nothing_left(family, pools, among)

    async def _assign_in(self, writer: BlockWriter, owner: Owner, among: Among | None) -> Held:
        if writer.block is None:
            raise Moved("that was chosen")
        record = writer.block.record
        affinity = (record.spec.node, record.spec.machine)
        opens_at = record.revision if self._mirror.is_mine(writer.block) and not record.spec.ready else ""
        change = Assign(owner, self._draw(), self._clock(), self.settings.cooldown_s, affinity, opens_at, among)
        held = _found(change.id, await writer.submit(change))
        return replace(held, fresh=change.fresh)

    async def _adopt(self, owner: Owner, held: Held) -> Held:
        writer = await self._mirror.writer_of(held.block)
        if writer is None:
            raise Moved(held.block)
        change = Adopt(held, owner, self._draw(), self._clock())
        return _found(change.id, await writer.submit(change))

    def _with_room(self, pools: Sequence[Pool], among: Among | None) -> BlockWriter | None:
        """The first of this node's blocks that has an address to give."""
        for block in self._mirror.not_full():
            if block.name in self._closing or not self._mirror.is_usable(block):
                continue
            if any(pool.holds(block) for pool in pools):
                writer = self._mirror.with_room(block.name, self._clock(), self.settings.cooldown_s, among)
                if writer is not None:
                    return writer
        return None

    async def _claim(self, family: int, pools: Sequence[Pool], among: Among | None) -> BlockWriter | None:
        """A block of this node with room, newly claimed unless another call has just done it; None: no block left."""
        async with self._claiming[family]:
            there = self._with_room(pools, among)
            if there is None and self.settings.migration:
                raise Migrating(self.settings.migration)
            return there or await self._claimer.claim(pools, among)

    async def _borrow(self, owner: Owner, family: int, pools: Sequence[Pool], among: Among | None) -> Held:
        for pool in () if self.settings.strict_affinity else pools:
            for cell in cells(pool, self._mirror.node, among):
                for block in await self._mirror.list_cell(cell):
                    if block.record.spec.ready and pool.holds(block) and not self._mirror.is_mine(block):
                        with contextlib.suppress(BlockFull, Moved):
                            return await self._assign_in(self._mirror.learn(block), owner, among)
        raise _nothing_left(family, pools, among)

    async def _release_one(self, held: Held, certain: bool) -> None:
        writer = await self._mirror.writer_of(held.block)
        if writer is not None:
            await writer.submit(Release(held, self._clock(), must_write=not certain))

    def _is_idle(self, block: Block) -> bool:
        """Ready or not: a claim that died leaves a block that nobody else may use."""
        if not (self._mirror.is_mine(block) and block.empty) or block.record.spec.frozen:
            return False
        return block.idle_since() + IDLE_S <= self._clock()


def _eligible(pools: Iterable[IPPool], wanted: Wanted) -> dict[int, tuple[Pool, ...]]:
    listed = tuple(pools)
    found = {
        family: eligible(listed, family, wanted.pools.get(family, ()), wanted.among.get(family))
        for family in wanted.families
    }
    for family, among in wanted.among.items():
        found[family] = tuple(pool for pool in found[family] if among.meets(pool.network))
        if not found[family]:
            raise OutsidePools(str(among))
    return found


async def _outcomes(tries: Sequence[Coroutine[object, object, T]]) -> Sequence[T | BaseException]:
    """What all of them end with; a lone one, as most are, without a task of its own."""
    if len(tries) != 1:
        return await asyncio.gather(*tries, return_exceptions=True)
    try:
        return [await tries[0]]
    except Exception as error:  # told to the caller, as gather tells it
        return [error]


def _nothing_left(family: int, pools: Sequence[Pool], among: Among | None) -> AddressTaken | NoAddress:
    if among is not None and among.single:
        return AddressTaken(str(among))
    return NoAddress(family, tuple(pool.name for pool in pools))


def _found(allocation_id: str, block: Block | None) -> Held:
    held = block.of_id(allocation_id) if block is not None else None
    if held is None:
        raise Moved(block.name if block is not None else "that was chosen")
    return held
