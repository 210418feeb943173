"""A node's files, with a process that can die before or after each change of them.

The real records and handles, on files of a memory file system: what a process wrote is there for the next one, and a
dead one's locks are let go as the kernel does it, its intents left.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

from cni.config import Attachment
from cni.records import Record, Records
from ipam.handles import Handles, Hold
from tests.simulation.process import Died, Process

T = TypeVar("T")


class Hand:
    """How a process changes files: perhaps it dies at it."""

    def __init__(self, process: Process, random: Random, risk: Callable[[], float]) -> None:
        self._process = process
        self._random = random
        self._risk = risk

    def change(self, work: Callable[[], T]) -> T:
        """Do it, unless the process is dead or dies now.

        Raises:
            Died: so it is.
        """
        self._process.check()
        risk = self._risk()
        if not risk or self._random.random() >= risk:
            return work()
        if self._random.random() < 0.5:
            work()
        self._process.kill()
        raise Died(self._process.name)

    def check(self) -> None:
        """See `Process.check`."""
        self._process.check()

    @property
    def dead(self) -> bool:
        """Whether the process is."""
        return self._process.dead


class MortalRecords(Records):
    """Records that a process may die over."""

    def __init__(self, state: Path, hand: Hand) -> None:
        super().__init__(state)
        self._hand = hand

    def write(self, record: Record) -> None:
        """See `Records.write`."""
        self._hand.change(lambda: super(MortalRecords, self).write(record))

    def retire(self, attachment: Attachment) -> Record | None:
        """See `Records.retire`."""
        return self._hand.change(lambda: super(MortalRecords, self).retire(attachment))

    def journal(self, record: Record) -> None:
        """See `Records.journal`."""
        self._hand.change(lambda: super(MortalRecords, self).journal(record))

    def drop(self, attachment: Attachment) -> None:
        """See `Records.drop`."""
        self._hand.change(lambda: super(MortalRecords, self).drop(attachment))


class MortalHandles(Handles):
    """Handles that a process may die holding."""

    def __init__(self, folder: Path, hand: Hand) -> None:
        super().__init__(folder)
        self._hand = hand

    def abandoned(self) -> list[str]:
        """See `Handles.abandoned`."""
        self._hand.check()
        return super().abandoned()

    async def _lock_file(self, handle: str, wait_s: float) -> Hold:
        self._hand.check()
        hold = await super()._lock_file(handle, wait_s)
        return MortalHold(handle, hold._fd, hold._path, hold._size, self._hand)


class MortalHold(Hold):
    """A handle, held by a process that may die."""

    def __init__(self, handle: str, fd: int, path: str, size: int, hand: Hand) -> None:
        super().__init__(handle, fd, path, size)
        self._hand = hand

    def intend(self) -> None:
        """See `Hold.intend`."""
        self._hand.change(super().intend)

    def sending(self, block: str, allocation_id: str) -> None:
        """See `Hold.sending`."""
        self._hand.change(partial(super().sending, block, allocation_id))

    def leave(self) -> None:
        """See `Hold.leave`; of a dead process the kernel closes the file and does nothing else."""
        if self._hand.dead:
            os.close(self._fd)
        else:
            super().leave()
