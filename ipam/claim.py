"""Claiming a block: created unready and empty, then the cell listed again, then ready with its first address.

Two blocks of one cell could overlap (pools change, block sizes differ), and no name of one object can prevent that. So
each creator lists the cell after its own block is there: of two overlapping blocks at least one creator sees the other,
and deletes its own. Nobody assigns before, which is what `ready` says to everybody else.

While the datastore is being left for another (ClusterConfiguration's migration), nothing is claimed. Who migrates sets
that first and freezes all blocks then; a claimer has its block created before it reads it. So either he sees the block
and freezes it, which no first assign survives, or the claimer sees the migration and deletes its block.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from datastore.errors import AlreadyExists, Conflict, NotFound, Unknown
from datastore.resources import clusterconfiguration
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.store import Store
from ipam.block import Among, Block, Network, new_block
from ipam.errors import Migrating, NotSettled
from ipam.group_commit import BlockWriter, Pause
from ipam.mirror import Mirror
from ipam.pools import Pool, candidates, cells

_TRIES = 12
_FIRST_PAUSE_S = 0.002


class Claimer:
    """Gets new blocks for one node."""

    def __init__(self, store: Store, mirror: Mirror, clock: Callable[[], float], pause: Pause = asyncio.sleep) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._pause = pause

    async def claim(self, pools: Iterable[Pool], among: Among | None = None) -> BlockWriter | None:
        """A block that this node may make ready, with some of `among`; None where there is no place for one.

        Raises:
            Migrating, Frozen: the datastore is being left for another.
            StoreError, NotSettled: the store can't be used.
        """
        for pool in pools:
            for cell in cells(pool, self._mirror.node, among):
                claimed = await self._claim_in(pool, cell, among)
                if claimed is not None:
                    return self._mirror.found_alone(claimed)
        return None

    async def delete(self, block: Block) -> bool:
        """Delete a block that is still as it was; True if it is gone.

        A lost answer leaves it to the next look: the delete can only land on a block that nobody has written since.

        Raises:
            StoreError: the store can't be used; the mirror keeps the block.
        """
        there: IPBlock | None = None
        try:
            await self._store.delete(block.record)
        except NotFound:
            pass
        except (Conflict, Unknown):
            with contextlib.suppress(NotFound):
                there = await self._store.get(IPBlock, block.name)
        self._mirror.forget(block.name)
        if there is not None:
            self._mirror.learn(Block.read(there))
        return there is None

    async def _claim_in(self, pool: Pool, cell: Network, among: Among | None) -> Block | None:
        listed = await self._mirror.list_cell(cell)
        taken = {block.network for block in listed}
        for left in listed:
            # Ours from a claim that died half-way, or the other half of a claim that runs in another process.
            if left.record.spec.ready or not self._mirror.is_mine(left):
                continue
            if not _alone(left, listed):
                if await self.delete(left):
                    taken.discard(left.network)
            elif pool.holds(left) and (among is None or among.meets(left.network)):
                left.check_thawed()
                await self._check_settled_here(left)
                return left
        for network in candidates(pool, cell, self._mirror.node, taken):
            if among is not None and not among.meets(network):
                continue
            created = await self._create(network, pool.name)
            if created is None:
                continue
            listing, _ = await asyncio.gather(self._mirror.list_cell(cell), self._check_settled_here(created))
            if _alone(created, listing):
                return created
            await self.delete(created)
        return None

    async def _check_settled_here(self, block: Block) -> None:
        """Return unless the datastore is being left for another; then the block goes, as it was never anybody's.

        Raises:
            Migrating: it is.
        """
        try:
            migration = (await self._store.get(ClusterConfiguration, clusterconfiguration.NAME)).spec.migration
        except NotFound:
            return
        if migration is not None:
            await self.delete(block)
            raise Migrating(migration.id)

    async def _create(self, network: Network, pool: str) -> Block | None:
        """The block, created; None if another has it. A lost answer is settled by creating it again."""
        block = new_block(network, pool, self._mirror.node, self._mirror.machine, self._clock())
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            try:
                return Block(await self._store.create(block.record), network)
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
