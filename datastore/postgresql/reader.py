"""The sessions that read.

A read that finds its connection ended is asked again on a new one: that a server was restarted while nobody looked is
no reason to fail. All of it, the wait for a free session included, fits in one timeout.
"""

import asyncio
from collections.abc import Sequence

from datastore.errors import Unavailable
from datastore.postgresql.connection import Row, Session
from datastore.postgresql.connector import Connector
from datastore.postgresql.failures import Doing
from datastore.postgresql.schema import Statement

IDLE_S = 60.0
"""After which a session that nobody needed is closed: a server has few."""


class Reader:
    """At most `size` sessions, which are opened when they are needed."""

    def __init__(self, connector: Connector, size: int, timeout_s: float) -> None:
        self._connector = connector
        self._size = size
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(size)
        self._idle: list[Session] = []
        """The one that was used last is the last."""
        self._is_closed = False

    async def fetch(self, statement: Statement, given: dict[str, object]) -> tuple[Session, Sequence[Row]]:
        """What `statement` gives, and who gave it.

        Raises:
            Unavailable: the server can't be read.
            Forbidden: these credentials may not.
            Invalid: a value can't be text.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                while True:
                    session, is_new = await self._session()
                    try:
                        rows = await session.fetch(statement, given, Doing.READING)
                    except Unavailable:
                        if is_new or not session.is_closed():
                            raise
                    else:
                        return session, rows
                    finally:
                        self._give_back(session)
        except TimeoutError as error:
            raise Unavailable(
                f"PostgreSQL: no answer within {self._timeout_s:g} s on {self._size} connections"
            ) from error

    def keep(self, session: Session) -> None:
        """Take over a session that was opened elsewhere."""
        self._give_back(session)

    async def close(self) -> None:
        """End the sessions; whoever reads is told."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(session.close() for session in idle))

    async def _session(self) -> tuple[Session, bool]:
        if self._is_closed:
            raise Unavailable("the datastore is closed")
        while self._idle:
            session = self._idle.pop()
            if not session.is_closed():
                return session, False
        return await self._connector.connect(), True

    def _give_back(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        if self._is_closed:
            session.terminate()
        elif not session.is_closed():
            session.used_at = now
            self._idle.append(session)
        while self._idle and now - self._idle[0].used_at > IDLE_S:
            self._idle.pop(0).terminate()
