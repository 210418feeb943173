"""Many changes of one block in one compare-and-swap.

Changes that arrive while a write flies wait for it and go together into the next; there is no timer, so a lone change
never waits. Each is told its own outcome:

    written                 the change is in the store
    nothing to write        told once the store has the block just as the mirror has it
    it can't apply          BlockFull and the like: told at once, the others go on
    the block is frozen     told once it has been read again: who thaws it doesn't tell this process
    the block moved on      an assign is sent back to choose again from the pools (`Moved`), a release tries again here
    the answer was lost     read again; whose id is there has won; the rest writes again at the revision just read, so
                            that the lost write can't land any more

The mirror (the block as last written or read) changes only after success, so a failed write leaves nothing behind.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from datastore.errors import Conflict, Invalid, NotFound, Unavailable, Unknown
from datastore.resources.ipblock import IPBlock
from datastore.store import Store
from ipam.block import Block
from ipam.errors import IpamError, NotSettled

_TRIES = 12
"""Writes of one batch before its outcome is given up; with the pauses below about 3 s."""
_FIRST_PAUSE_S = 0.002

Pause = Callable[[float], Awaitable[None]]


class Moved(IpamError):
    """The block isn't as it was when the change was decided: decide again."""

    def __init__(self, block: str) -> None:
        super().__init__(f"block {block} has moved on")


class Change(Protocol):
    """One member of a batch."""

    @property
    def moves(self) -> bool:
        """Whether it is sent back with `Moved` when the block has moved on, instead of trying again."""
        ...

    @property
    def must_write(self) -> bool:
        """Whether a write must be won even if it changes nothing (settling a lost write)."""
        ...

    def apply(self, block: Block) -> Block:
        """The block with this change; the block itself where nothing is to be done.

        Raises:
            IpamError: it can't be applied.
            Invalid: what it would write is wrong.
        """
        ...

    def is_in(self, block: Block) -> bool:
        """Whether a block that was just read has this change already."""
        ...


class _Member:
    def __init__(self, change: Change) -> None:
        self.change = change
        self.outcome: asyncio.Future[Block | None] = asyncio.get_running_loop().create_future()

    def tell(self, block: Block | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(block)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class BlockWriter:
    """Writes one block, batch after batch; the only one in this process that does."""

    def __init__(
        self,
        store: Store,
        block: Block,
        pause: Pause = asyncio.sleep,
        clock: Callable[[], float] = time.time,
        on_change: Callable[["BlockWriter"], None] = lambda _: None,
        node: str = "",
    ) -> None:
        self._store = store
        self._pause = pause
        self._clock = clock
        self._on_change = on_change
        """Told when the block was written or read, and when a batch for it has come to nothing."""
        self._node = node
        """Who writes; empty for who may write any block."""
        self.name = block.name
        self._waiting: list[_Member] = []
        self._flying: list[_Member] = []
        self._moving = 0
        self._task: asyncio.Task[None] | None = None
        self.block: Block | None = self._as_seen(block)
        """The mirror: the block as last written or read; None once it is known to be gone."""
        self.version = 0
        """How often the mirror has changed: a listing that was asked for before the last time may be older."""

    @property
    def busy(self) -> bool:
        """Whether changes are waiting or being written."""
        return bool(self._waiting or self._flying)

    @property
    def waiting(self) -> int:
        """Changes not written yet that will take an address, for choosing another block before this one is full."""
        return self._moving

    async def submit(self, change: Change) -> Block | None:
        """Apply a change and wait until it is in the store; gives the block with it, None if the block is gone.

        Cancelling the caller doesn't cancel the write.

        Raises:
            IpamError: it can't be applied, or `Moved`, or `NotSettled`.
            Invalid: what it would write is wrong; the others of its batch don't notice.
            StoreError: the store can't be written; certainly not applied.
        """
        member = _Member(change)
        self._waiting.append(member)
        self._moving += change.moves
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await member.outcome  # a caller that is cancelled cancels this future, for which nobody else waits

    def see(self, block: Block | None) -> None:
        """The block as it was just written or read."""
        self.block = None if block is None else self._as_seen(block)
        self.version += 1
        self._on_change(self)

    def _as_seen(self, block: Block) -> Block:
        """The block without times ahead; of another node's the times are left to that node (admission refuses more)."""
        return block if self._node not in ("", block.record.spec.node) else block.not_ahead(self._clock())

    async def _run(self) -> None:
        while self._waiting:
            self._flying, self._waiting = self._waiting, []
            version = self.version
            try:
                await self._commit(self._flying)
            except Exception as error:  # every member must be told something, or its caller waits for ever
                for member in self._flying:
                    member.fail(error)
            self._moving -= sum(member.change.moves for member in self._flying)
            self._flying = []
            if self.version == version:
                self._on_change(self)  # those who waited don't wait any more

    async def _commit(self, batch: list[_Member]) -> None:
        pause_s = _FIRST_PAUSE_S
        lost_at = ""
        if self.block is not None and self.block.record.spec.frozen:
            self.see(await self._get(lost=False))
        for _ in range(_TRIES):
            if self.block is None:
                self._tell_gone(batch)
                return
            changed, batch = self._apply(self.block, batch)
            must_write = bool(lost_at) or any(member.change.must_write for member in batch)
            if not batch:
                return
            if changed is self.block and not must_write:
                # There is no compare-and-swap that a stale mirror would lose.
                fresh = await self._get(lost=False)
                if fresh is not None and fresh.record.revision == self.block.record.revision:
                    self._tell(batch, self.block)
                    return
                self.see(fresh)
                continue
            base = self.block.record.revision
            try:
                self.see(Block(await self._store.update(changed.record), changed.network))
            except (Conflict, NotFound):
                lost_at = ""
            except Unknown:
                lost_at = base
            except Unavailable:
                if not lost_at:
                    raise
            else:
                self._tell(batch, self.block)
                return
            batch, lost_at = await self._read_again(batch, lost_at)
            if not batch:
                return  # at once: who was sent back chooses by what was just read, as long as it is so
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, 1.0)
        for member in batch:
            member.fail(NotSettled(self.name, _TRIES) if lost_at else Moved(self.name))

    def _apply(self, block: Block, batch: list[_Member]) -> tuple[Block, list[_Member]]:
        """The block with every change that applies, and those changes; the others are told why not."""
        kept = []
        for member in batch:
            try:
                block = member.change.apply(block)
            except (IpamError, Invalid) as error:
                member.fail(error)
            else:
                kept.append(member)
        return block, kept

    async def _read_again(self, batch: list[_Member], lost_at: str) -> tuple[list[_Member], str]:
        """Read the block; those whose change is there have won, those that must decide again are sent back.

        `lost_at` is the revision on which a write was lost, as long as the block is still at it: only then can that
        write still land, and the whole batch goes on until a write at this revision is won.
        """
        fresh = await self._get(bool(lost_at))
        self.see(fresh)
        if fresh is None:
            return batch, ""
        lost_at = lost_at if fresh.record.revision == lost_at else ""
        left = []
        for member in batch:
            if member.change.is_in(fresh):
                member.tell(fresh)
            elif member.change.moves and not lost_at:
                member.fail(Moved(self.name))
            else:
                left.append(member)
        return left, lost_at

    async def _get(self, lost: bool) -> Block | None:
        """The block as it is; after a lost answer the read is repeated, for without it nobody can be told anything."""
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            try:
                return Block.read(await self._store.get(IPBlock, self.name))
            except NotFound:
                return None
            except Unavailable:
                if not lost:
                    raise
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, 1.0)
        raise NotSettled(self.name, _TRIES)

    def _tell(self, batch: list[_Member], block: Block) -> None:
        for member in batch:
            member.tell(block)

    def _tell_gone(self, batch: list[_Member]) -> None:
        for member in batch:
            if member.change.moves:
                member.fail(Moved(self.name))
            else:
                member.tell(None)
