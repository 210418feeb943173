"""Claiming a block: created unready and empty, then the cell listed again, then ready with its first address.

Two blocks of one cell could overlap (pools change, block sizes differ), and no name of one object can prevent that. So
each creator lists the cell after its own block is there: of two overlapping blocks at least one creator sees the other,
and deletes its own. Nobody assigns before, which is what `ready` says to everybody else.

While the datastore is being left for another (ClusterConfiguration's migration), nothing is claimed. Who migrates sets
that first and freezes all blocks then; a claimer has its block created before it reads it. So either he sees the block
and freezes it, which no first assign survives, or the claimer sees the migration and deletes its block.

A pool goes in the same way: disabled first, then without blocks, then gone. The claimer reads it again once its block
is there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator

from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound, Unavailable, Unknown
from datastore.resources import clusterconfiguration
from datastore.resources.clusterconfiguration import ClusterConfiguration, Migration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.store import Store
from ipam.block import Among, Block, Network, new_block
from ipam.errors import Migrating, NotSettled
from ipam.group_commit import BlockWriter, Pause
from ipam.mirror import Mirror
from ipam.pools import Pool, candidates, cells, pool_of
from ipam.reserved import NOTHING, Reserved

_TRIES = 12
_FIRST_PAUSE_S = 0.002
FULL_S = 10.0
"""How long a cell without a place for a block isn't listed again: every assign would, with the pools exhausted."""


class _NoSuchPool(Exception):
    """The pool that was to be claimed from isn't as it was told."""


class Claimer:
    """Gets new blocks for one node."""

    def __init__(self, store: Store, mirror: Mirror, clock: Callable[[], float], pause: Pause = asyncio.sleep) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._pause = pause
        self._full: dict[tuple[str, Network], float] = {}
        """Cells that had no place for a block, and until when that is believed."""

    async def claim(
        self, pools: Iterable[Pool], among: Among | None = None, reserved: Reserved = NOTHING
    ) -> BlockWriter | None:
        """A block that this node may make ready, with some of `among`; None where there is no place for one.

        Raises:
            Migrating, Frozen: the datastore is being left for another.
            StoreError, NotSettled: the store can't be used.
        """
        for pool in pools:
            with contextlib.suppress(_NoSuchPool):
                for cell in self._cells(pool, among, reserved):
                    claimed = await self._claim_in(pool, cell, among, reserved)
                    if claimed is not None:
                        return self._mirror.found_alone(claimed)
                    self._note_full(pool, cell, among)
        return None

    async def has_place(self, pools: Iterable[Pool], among: Among | None, reserved: Reserved) -> bool:
        """Whether there is a place for a block in a pool; nothing is made.

        Raises:
            StoreError: the store can't be read.
        """
        for pool in pools:
            for cell in self._cells(pool, among, reserved):
                if any(True for _ in self._places(pool, cell, await self._mirror.list_cell(cell), among, reserved)):
                    return True
                self._note_full(pool, cell, among)
        return False

    def look_everywhere(self) -> bool:
        """Forget which cells had no place lately; gives whether there were some."""
        known, self._full = bool(self._full), {}
        return known

    async def delete(self, block: Block) -> bool:
        """Delete a block that is still as it was; True if it is gone.

        A lost answer is settled by deleting it again: what is still on its way can land on this very block only.

        Raises:
            NotSettled: it may go any time.
            StoreError: the store can't be used; the block stays.
        """
        lost, pause_s = False, _FIRST_PAUSE_S
        for _ in range(_TRIES):
            try:
                await self._store.delete(block.record)
            except NotFound:
                pass
            except Conflict:
                return await self._is_gone(block)
            except (Unknown, Unavailable) as error:
                lost = lost or isinstance(error, Unknown)
                if not lost:
                    raise
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, 1.0)
                continue
            self._mirror.forget(block.name)
            return True
        raise NotSettled(block.name, _TRIES)

    async def _is_gone(self, block: Block) -> bool:
        """Whether a block that isn't as it was is there at all; the mirror has it as it is now."""
        there: IPBlock | None = None
        with contextlib.suppress(NotFound):
            there = await self._store.get(IPBlock, block.name)
        self._mirror.forget(block.name)
        if there is not None:
            self._mirror.learn(Block.read(there))
        return there is None

    def _cells(self, pool: Pool, among: Among | None, reserved: Reserved) -> Iterator[Network]:
        """The cells in which it is worth looking: not those that had no place a moment ago."""
        now, every = self._clock(), cells(pool, self._mirror.node, among, reserved)
        if among is not None:
            return every
        return (cell for cell in every if not now < self._full.get((pool.name, cell), 0) <= now + FULL_S)

    def _note_full(self, pool: Pool, cell: Network, among: Among | None) -> None:
        if among is None:
            self._full[pool.name, cell] = self._clock() + FULL_S

    def _places(
        self, pool: Pool, cell: Network, listed: Iterable[Block], among: Among | None, reserved: Reserved
    ) -> Iterator[Network]:
        taken = [block.network for block in listed]
        return candidates(pool, cell, self._mirror.node, taken, among, reserved)

    async def _claim_in(self, pool: Pool, cell: Network, among: Among | None, reserved: Reserved) -> Block | None:
        listed = await self._mirror.list_cell(cell)
        gone: set[str] = set()
        for left in listed:
            # Ours from a claim that died half-way, or the other half of a claim that runs in another process.
            if left.record.spec.ready or not self._mirror.is_mine(left):
                continue
            if not _alone(left, listed):
                if await self.delete(left):
                    gone.add(left.name)
            elif pool.holds(left) and (among is None or among.meets(left.network)):
                left.check_thawed()
                await self._check_may_claim(pool, left)
                return left
        there = [block for block in listed if block.name not in gone]
        for network in self._places(pool, cell, there, among, reserved):
            created = await self._create(network, pool.name)
            if created is None:
                continue
            listing, _ = await asyncio.gather(self._mirror.list_cell(cell), self._check_may_claim(pool, created))
            if _alone(created, listing):
                return created
            await self.delete(created)
        return None

    async def _check_may_claim(self, pool: Pool, block: Block) -> None:
        """Return if this block may become a node's; otherwise it goes, as it was never anybody's.

        Raises:
            Migrating: the datastore is being left for another.
            _NoSuchPool: the pool isn't there any more, is disabled, or has become another.
        """
        migration, there = await asyncio.gather(self._migration(), self._is_as_known(pool))
        if migration is not None or not there:
            await self.delete(block)
        if migration is not None:
            raise Migrating(migration.id)
        if not there:
            raise _NoSuchPool

    async def _migration(self) -> Migration | None:
        try:
            return (await self._store.get(ClusterConfiguration, clusterconfiguration.NAME)).spec.migration
        except NotFound:
            return None

    async def _is_as_known(self, pool: Pool) -> bool:
        try:
            found = await self._store.get(IPPool, pool.name)
            found.check()
        except (NotFound, Invalid):
            return False
        return not found.spec.disabled and pool == pool_of(found)

    async def _create(self, network: Network, pool: str) -> Block | None:
        """The block, created; None if another has it. A lost answer is settled by creating it again."""
        block = new_block(network, pool, self._mirror.node, self._mirror.machine, self._clock())
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            try:
                created = Block(await self._store.create(block.record), network)
                self._mirror.learn(created)  # so that it is given back, whatever becomes of this claim
                return created
            except AlreadyExists:
                with contextlib.suppress(NotFound):
                    there = Block.read(await self._store.get(IPBlock, block.name))
                    return there if self._mirror.is_mine(there) and not there.record.spec.ready else None
            except Unknown:
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, 1.0)
        raise NotSettled(block.name, _TRIES)


def _alone(block: Block, listed: Iterable[Block]) -> bool:
    return not any(block.network.overlaps(other.network) for other in listed if other.name != block.name)
