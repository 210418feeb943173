"""The one session that writes: group commit.

Writes that are queued while a statement is on its way are the next one; there is no timer, so a lone write waits for
nobody. All writers of a store wait for each other anyway (`function.py`), so more sessions would write no faster.
Nothing is sent twice after it may have been applied.

    write -> queue -> [ statement: one transaction ] -> outcomes -> compaction, when it is due -> next
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from datastore.errors import Forbidden, StoreError, Unavailable, Unknown
from datastore.postgresql import failures
from datastore.postgresql.connection import Session
from datastore.postgresql.connector import Connector
from datastore.postgresql.failures import Doing
from datastore.postgresql.schema import Statements
from datastore.postgresql.writes import Outcome, Write, outcomes, parameters
from datastore.revisions import History, Stamp

log = logging.getLogger(__name__)

MAX_GROUP = 256
"""Writes in one statement: each takes the server 0.1 ms, for which everybody else's wait."""
MAX_GROUP_BYTES = 4 << 20
"""Of bodies in one statement; a single body has at most a quarter of it."""
MAX_FORGOTTEN = 10_000
"""Log entries that one compaction deletes."""


@dataclass(frozen=True, slots=True)
class _Queued:
    write: Write
    answer: asyncio.Future[Stamp]
    until: float
    """By the loop's clock: when it is too late to send it."""


class Writer:
    """Sends writes; for one event loop."""

    def __init__(self, connector: Connector, statements: Statements, keep: int, timeout_s: float) -> None:
        self._connector = connector
        self._statements = statements
        self._keep = keep
        self._timeout_s = timeout_s
        self._queue: deque[_Queued] = deque()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None

    async def write(self, write: Write) -> Stamp:
        """The revision that `write` made. A caller that is cancelled leaves its write in the queue.

        Raises:
            StoreError: as `Writer` in the contract says.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Stamp] = loop.create_future()
        self._queue.append(_Queued(write, answer, loop.time() + self._timeout_s))
        if self._task is None:
            self._task = loop.create_task(self._run(), name="tortie-postgresql-writer")
        return await answer

    async def close(self) -> None:
        """Send what is queued, then end."""
        while self._task is not None:
            await asyncio.wait((self._task,))
        if self._session:
            await self._session.close()

    async def _run(self) -> None:
        """Until the queue is empty: a task, so that no caller's end is a write's end."""
        try:
            while group := self._next_group():
                result = await self._transact([queued.write for queued in group])
                for queued, outcome in zip(group, result[0], strict=True):
                    _settle(queued.answer, outcome)
                await self._compact(result[1])
        finally:
            self._task = None

    def _next_group(self) -> list[_Queued]:
        group: list[_Queued] = []
        size = 0
        now = asyncio.get_running_loop().time()
        while self._queue and len(group) < MAX_GROUP:
            queued = self._queue[0]
            size += len(queued.write.body or b"")
            if group and size > MAX_GROUP_BYTES:
                break
            self._queue.popleft()
            if now > queued.until:
                _settle(queued.answer, Unavailable(f"PostgreSQL: could not be sent within {self._timeout_s:g} s"))
            else:
                group.append(queued)
        return group

    async def _transact(self, writes: Sequence[Write]) -> tuple[list[Outcome], History | None]:
        """The outcomes of `writes` in one transaction, or in one each if the server can't take one of them."""
        try:
            session = await self._ready()
        except StoreError as error:
            return [_copy(error) for _ in writes], None
        except Exception as error:  # whatever it is, the callers are told and the task lives on
            return [failures.meaning(error, Doing.CONNECTING, "PostgreSQL") for _ in writes], None
        try:
            given = parameters(writes, session.timeline)
            return outcomes(session, writes, await session.fetch(self._statements.write, given, Doing.WRITING))
        except StoreError as error:
            if len(writes) > 1 and error.__cause__ and failures.one_members(error.__cause__):
                log.warning("could not commit %d writes together, trying each alone: %s", len(writes), error)
                return await self._each_alone(writes)
            return [_copy(error) for _ in writes], None
        except Exception as error:  # as above
            session.terminate()
            return [failures.meaning(error, Doing.WRITING, session.where) for _ in writes], None

    async def _each_alone(self, writes: Sequence[Write]) -> tuple[list[Outcome], History | None]:
        results = [await self._transact([write]) for write in writes]
        return [outcome for found, _ in results for outcome in found], None

    async def _ready(self) -> Session:
        """A session that knows the statement: from here on a failure may come after the server's commit."""
        if self._session is None or self._session.is_closed():
            self._session = None
            session = await self._connector.connect()
            try:
                await session.prepare(self._statements.write)
            except BaseException:
                session.terminate()
                raise
            self._session = session
        return self._session

    async def _compact(self, history: History | None) -> None:
        """Forget log entries that are too many; no writer waits for it but this store's."""
        session = self._session
        if history is None or session is None or session.is_closed():
            return
        to = min(history.compact_to(self._keep), history.compacted + MAX_FORGOTTEN)
        if to <= history.compacted:
            return
        try:
            await session.fetch(self._statements.forget, {"to": to}, Doing.READING)
        except Exception as error:  # nobody asked for it, and there will be another
            log.warning("could not compact the log to %d: %s", to, error)


def _settle(answer: asyncio.Future[Stamp], outcome: Outcome) -> None:
    if answer.done():
        return  # its caller was cancelled
    if isinstance(outcome, StoreError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _copy(error: StoreError) -> StoreError:
    """One for each caller: an exception that is raised twice gathers both traces."""
    copied = type(error)(*error.args) if isinstance(error, Unavailable | Unknown | Forbidden) else error
    copied.__cause__ = error.__cause__
    return copied
