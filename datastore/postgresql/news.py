"""Who rings the bell: NOTIFY, and a look at the log whenever one may have been lost.

    LISTEN ── heard: a kind ─────────────────────────────> ring that kind
       │
       ├── just connected, timer ── look at the log ─────> ring what came after the last look
       └── connection ended, no answer ──────────────────> ring all: who watches shall see for himself; connect again

Ringing too often costs watchers a read, ringing too seldom would cost them news; NOTIFY is never believed to be all.
"""

import asyncio
import logging
from typing import cast

from datastore.bell import Bell
from datastore.errors import StoreError
from datastore.postgresql.connection import Session
from datastore.postgresql.connector import FIRST_PAUSE_S, LONGEST_PAUSE_S, Connector
from datastore.postgresql.failures import Doing
from datastore.postgresql.reads import history_of
from datastore.postgresql.schema import Statements
from datastore.revisions import History

log = logging.getLogger(__name__)

TIMER_S = 5.0
"""Seconds between looks that nothing asked for: they also find a connection that is dead without a word."""


class News:
    """Rings `bell`; begins with `start` and ends with `close`."""

    def __init__(self, connector: Connector, statements: Statements, bell: Bell, timer_s: float) -> None:
        self._connector = connector
        self._statements = statements
        self._bell = bell
        self._timer_s = timer_s
        self._seen = History("", 0, 0)
        self._task: asyncio.Task[None] | None = None
        self.is_listening = False
        """Whether NOTIFYs are heard, as far as is known."""

    def start(self) -> None:
        """Begin to listen, unless that has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tortie-postgresql-news")

    async def close(self) -> None:
        """Stop listening."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                session = await self._connector.connect()
                try:
                    await self._listen(session)
                finally:
                    was_listening, self.is_listening = self.is_listening, False
                    session.terminate()
                    self._bell.ring_all()
                if was_listening:
                    pause_s = FIRST_PAUSE_S
            except StoreError as error:
                # Watchers are told when they read; here it is one try of many.
                log.log(logging.DEBUG if pause_s > FIRST_PAUSE_S else logging.WARNING, "no news is heard: %s", error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _listen(self, session: Session) -> None:
        """Until the connection ends.

        Raises:
            StoreError: it doesn't answer.
        """
        ended = asyncio.Event()
        await session.listen(self._statements.channel, lambda kind: self._bell.ring((kind,)), ended.set)
        self.is_listening = True
        while not session.is_closed():
            await self._look(session)
            try:
                async with asyncio.timeout(self._timer_s):
                    await ended.wait()
            except TimeoutError:
                continue

    async def _look(self, session: Session) -> None:
        rows = await session.fetch(self._statements.look, {"after": self._seen.newest}, Doing.READING)
        reach = history_of(session, rows)
        if reach.identity != self._seen.identity or not reach.compacted <= self._seen.newest <= reach.newest:
            self._bell.ring_all()
        else:
            self._bell.ring(cast("list[str] | None", rows[0][3]) or ())
        self._seen = reach
