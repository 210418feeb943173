"""The one thread that writes: group commit.

Writes that are queued while a commit flies are the next transaction; there is no timer, so a lone write waits for
nobody. Nothing is ever tried again after it may have been committed.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datastore.errors import StoreError, Unavailable, Unknown
from datastore.revisions import Stamp
from datastore.sql import failures
from datastore.sql.file import Access, File
from datastore.sql.lane import Lane, Results, settle
from datastore.sql.writes import Committed, Write, apply

log = logging.getLogger(__name__)

MAX_GROUP = 256
"""Writes in one transaction: each takes 0.05 ms beside the commit, so other processes wait 15 ms at most."""

Outcomes = list[Stamp | StoreError]


@dataclass(frozen=True, slots=True)
class _Queued:
    write: Write
    answer: asyncio.Future[Stamp]


class Writer:
    """Commits writes; calls `on_committed` on the event loop after each transaction that changed something."""

    def __init__(self, access: Access, keep: int, on_committed: Callable[[Committed], None]) -> None:
        self._access = access
        self._keep = keep
        self._on_committed = on_committed
        self._file = File(access)
        self._lane: Lane[_Queued] = Lane(
            "tortie-sqlite-writer", self._commit, self._file.close, max_group=MAX_GROUP, after=self._touch
        )
        self._to_tell = False

    async def write(self, write: Write) -> Stamp:
        """The revision that `write` made. A caller that is cancelled leaves its write in the queue.

        Raises:
            StoreError: as `Writer` in the contract says.
        """
        answer: asyncio.Future[Stamp] = asyncio.get_running_loop().create_future()
        self._lane.put(_Queued(write, answer))
        return await answer

    async def close(self) -> None:
        """Commit what is queued, then end."""
        await self._lane.close()

    def _commit(self, group: Sequence[_Queued]) -> Results:
        outcomes, committed = self._transact([queued.write for queued in group])
        self._to_tell = bool(committed) or any(isinstance(outcome, Unknown) for outcome in outcomes)

        def answer() -> None:
            for queued, outcome in zip(group, outcomes, strict=True):
                settle(queued.answer, outcome)
            for done in committed:
                self._on_committed(done)

        return answer

    def _touch(self) -> None:
        if self._to_tell:
            self._file.touch()

    def _transact(self, writes: Sequence[Write]) -> tuple[Outcomes, list[Committed]]:
        """The outcomes of `writes` in one transaction, or in one each if SQLite can't take one of them."""
        try:
            connection = self._file.connection()
            failures.patiently(lambda: connection.execute("BEGIN IMMEDIATE"), self._access.patience_s)
            outcomes, committed = apply(connection, writes, self._keep)
        except Exception as error:  # whatever it is, the callers are told and the thread lives on
            return self._refused(writes, error)
        try:
            failures.patiently(lambda: connection.execute("COMMIT"), self._access.patience_s)
        except Exception as error:  # as above
            self._give_up(error)
            return [failures.at_commit(error, str(self._access.path)) for _ in writes], []
        return outcomes, [committed] if committed else []

    def _refused(self, writes: Sequence[Write], error: Exception) -> tuple[Outcomes, list[Committed]]:
        self._give_up(error)
        if len(writes) == 1 or failures.is_the_files(error) or isinstance(error, Unavailable | OSError):
            return [failures.before_commit(error, str(self._access.path)) for _ in writes], []
        log.warning("could not commit %d writes together, trying each alone: %s", len(writes), error)
        alone = [self._transact([write]) for write in writes]
        return [outcome for outcomes, _ in alone for outcome in outcomes], [done for _, all_ in alone for done in all_]

    def _give_up(self, error: Exception) -> None:
        """End the transaction; after anything but a busy file, with the connection, whose state nobody knows."""
        self._file.roll_back()
        if not failures.is_busy(error):
            self._file.close()
