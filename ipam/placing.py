"""Where one address comes from: a block of this node with room, a new block, or another node's block.

    own        by the mirror, without asking anybody; the compare-and-swap decides
    claim      `ipam.claim`, unless this node has all the blocks it may have
    borrow     unless affinity is strict: first where this node has borrowed already, then cell by cell

An address asked for by itself has one block that it can be in. That is claimed if nobody has it; if somebody is just
claiming it, it is waited for. Whoever can't have it is told why, and by whom it is had.

A cell in which nobody had an address to lend isn't listed again for a while: with the pools exhausted, every assign
would read every block of them. What is freed meanwhile has to cool anyway.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from datastore.resources.ipblock import Allocation, cell_of
from ipam.block import Address, Among, Block, Held, Network, Owner
from ipam.changes import Assign
from ipam.claim import FULL_S, Claimer
from ipam.errors import AddressTaken, BlockFull, Migrating, NoAddress
from ipam.group_commit import BlockWriter, Moved, Pause
from ipam.handles import Hold
from ipam.mirror import Mirror
from ipam.pools import Pool, cells
from ipam.reserved import NOTHING, Reserved
from ipam.settings import Settings

_TRIES = 40
"""Choices of a block before an assign gives up; each one was lost to somebody else's progress."""
_WAITS = 8
"""How often a block that somebody else is claiming is looked at again; with the pauses below for 2.5 s."""
_FIRST_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Request:
    """One address, of one family."""

    owner: Owner
    family: int
    pools: tuple[Pool, ...]
    among: Among | None = None
    hold: Hold | None = None
    """The owner's handle, held: what is sent for it is noted there."""

    @property
    def only(self) -> Address | None:
        """The very address that is asked for."""
        return self.among.ranges[0].first if self.among is not None and self.among.single else None


class Placer:
    """Finds addresses for one node."""

    def __init__(
        self, mirror: Mirror, claimer: Claimer, clock: Callable[[], float], draw: Callable[[], str], pause: Pause
    ) -> None:
        self.settings = Settings()
        self.reserved = NOTHING
        self.closing: frozenset[str] = frozenset()
        """Blocks on their way back, from which nothing is given."""
        self._mirror = mirror
        self._claimer = claimer
        self._clock = clock
        self._draw = draw
        self._pause = pause
        self._claiming = {4: asyncio.Lock(), 6: asyncio.Lock()}
        self._dry: dict[tuple[str, Network], float] = {}
        """Cells where nobody had an address to lend, and until when that is believed."""

    def set_rules(self, settings: Settings, reserved: Reserved) -> None:
        """What the administrators want from now on."""
        self.settings, self.reserved = settings, reserved
        self._mirror.set_rules(settings.cooldown_s, reserved)

    async def place(self, request: Request) -> Held:
        """An address, persisted.

        Raises:
            NoAddress, AddressTaken, Migrating, Frozen: there is none to be had; nothing was assigned.
            NotSettled: perhaps assigned.
            StoreError: the store can't be used.
        """
        waits, pause_s = _WAITS, _FIRST_PAUSE_S
        for _ in range(_TRIES):
            writer = self._own(request) or await self._claim(request)
            if writer is not None:
                with contextlib.suppress(BlockFull, Moved):
                    return await self._assign_in(writer, request)
                continue
            borrowed = await self._borrow(request)
            if borrowed is not None:
                return borrowed
            block = await self._block_of(request)
            if block is None or self._mirror.is_usable(block) or not waits:
                raise self._refusal(request, block)
            waits -= 1
            await self._pause(pause_s)
            pause_s *= 2
        raise self._refusal(request, await self._block_of(request), _OUTRUN)

    async def check_room(self, request: Request) -> None:
        """Return if an address could be given now; the store is asked only where this node is full.

        Raises:
            NoAddress, AddressTaken, Migrating: it couldn't.
            StoreError: the store can't be read.
        """
        if self.settings.migration:
            raise Migrating(self.settings.migration)
        if self._own(request) is not None:
            return
        if not self._at_limit(request.family) and await self._claimer.has_place(
            request.pools, request.among, self.reserved
        ):
            return
        if self._lends() and self._mirror.lender(request.pools, request.among) is not None:
            return
        for pool, cell in self._cells(request):
            if await self._lenders(pool, cell, request):
                return
        raise self._refusal(request, await self._block_of(request))

    def _own(self, request: Request) -> BlockWriter | None:
        return self._mirror.with_room(request.pools, request.among, self.closing)

    async def _claim(self, request: Request) -> BlockWriter | None:
        """A block of this node with room, newly claimed unless another call has just done it; None: none can be had."""
        async with self._claiming[request.family]:
            there = self._own(request)
            if there is not None:
                return there
            if self.settings.migration:
                raise Migrating(self.settings.migration)
            if self._at_limit(request.family):
                return None
            return await self._claimer.claim(request.pools, request.among, self.reserved)

    def _at_limit(self, family: int) -> bool:
        most = self.settings.max_blocks
        return most > 0 and self._mirror.count(family) >= most

    def _lends(self) -> bool:
        return not self.settings.strict_affinity

    async def _borrow(self, request: Request) -> Held | None:
        for _ in range(_TRIES if self._lends() else 0):
            writer = self._mirror.lender(request.pools, request.among)
            if writer is None:
                break
            with contextlib.suppress(BlockFull, Moved):
                return await self._assign_in(writer, request)
        for pool, cell in self._cells(request):
            for block in await self._lenders(pool, cell, request):
                with contextlib.suppress(BlockFull, Moved):
                    return await self._assign_in(self._mirror.learn(block), request)
        return None

    def _cells(self, request: Request) -> Iterator[tuple[Pool, Network]]:
        """Where somebody may have an address to lend; of an address asked for, its own cell, whoever has that."""
        if not self._lends() and request.only is None:
            return
        now = self._clock()
        for pool in request.pools:
            for cell in cells(pool, self._mirror.node, request.among, self.reserved):
                if request.among is not None or not now < self._dry.get((pool.name, cell), 0) <= now + FULL_S:
                    yield pool, cell

    async def _lenders(self, pool: Pool, cell: Network, request: Request) -> list[Block]:
        """The blocks of a cell that have an address to give, as a fresh list shows them."""
        found = [block for block in await self._mirror.list_cell(cell) if self._may_give(block, pool, request)]
        if not found and request.among is None:
            self._dry[pool.name, cell] = self._clock() + FULL_S
        return found

    def _may_give(self, block: Block, pool: Pool, request: Request) -> bool:
        # Of this node's own what another process has just freed.
        allowed = block.name not in self.closing if self._mirror.is_mine(block) else self._lends()
        usable = allowed and self._mirror.is_usable(block) and pool.holds(block)
        return usable and self._mirror.has_room(block, request.among)

    async def _assign_in(self, writer: BlockWriter, request: Request) -> Held:
        if writer.block is None:
            raise Moved(writer.name)
        record, settings = writer.block.record, self.settings
        change = Assign(
            request.owner,
            self._draw(),
            self._clock(),
            settings.cooldown_s,
            (record.spec.node, record.spec.machine),
            record.revision if self._mirror.is_mine(writer.block) and not record.spec.ready else "",
            request.among,
            self.reserved,
        )
        if request.hold is not None:
            request.hold.sending(writer.name, change.id)
        block = await writer.submit(change)
        held = change.given(block) if block is not None else None
        if held is None:
            raise Moved(writer.name)
        return held

    async def _block_of(self, request: Request) -> Block | None:
        """The block that has the only address asked for, as a fresh list shows it."""
        address = request.only
        if address is None or request.among is None:
            return None
        cell = cell_of(request.among.ranges[0].network)
        return next((block for block in await self._mirror.list_cell(cell) if address in block.network), None)

    def _refusal(self, request: Request, block: Block | None, why: str = "") -> AddressTaken | NoAddress:
        limit = f"this node has its {self.settings.max_blocks} IPv{request.family} blocks (maxBlocksPerNode)"
        limit = limit if self._at_limit(request.family) else ""
        address = request.only
        if address is None:
            return NoAddress(request.family, tuple(pool.name for pool in request.pools), limit or why)
        if block is None:
            return AddressTaken(str(address), f"lies in no block, and none can be made for it: {limit or _CROWDED}")
        found = block.record.spec.allocations.get(str(int(address) - int(block.network.network_address)))
        if found is not None:
            return AddressTaken(str(address), f"is taken by {_called(found)}", found.handle)
        return AddressTaken(str(address), self._why_not(block, request))

    def _why_not(self, block: Block, request: Request) -> str:
        spec = block.record.spec
        where = f"lies in block {spec.cidr} of node {spec.node}"
        if not any(pool.holds(block) for pool in request.pools):
            return f"{where}, made for pool {spec.pool}"
        if not self._mirror.is_usable(block):
            return f"{where}, which is still being made; try again"
        if not self._mirror.is_mine(block) and not self._lends():
            return f"{where}, and strict affinity lets no other node have some of it"
        return f"{where}, where {_OUTRUN}"


_OUTRUN = f"others were quicker {_TRIES} times; try again"
_CROWDED = "blocks of other sizes are in its place"


def _called(allocation: Allocation) -> str:
    """An owner, as people know it."""
    who = f"pod {allocation.namespace}/{allocation.pod}" if allocation.pod else f"handle {allocation.handle}"
    return f"{who} on node {allocation.node}"
