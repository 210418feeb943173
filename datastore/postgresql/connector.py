"""The way to the server that takes writes: several hosts, and no more tries than it can bear.

    connect ── each host in turn, the last good one first ── Session

After a failure nobody tries again before a pause is over, which doubles with each failure; who asks meanwhile is told
the last failure at once. So a server that comes back finds no crowd, and a call never waits for one that is away.
"""

import asyncio

from datastore.errors import Forbidden, StoreError, Unavailable
from datastore.postgresql.address import PostgreSQLAddress
from datastore.postgresql.connection import Session, connect

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


class Connector:
    """Makes sessions, for one event loop."""

    def __init__(self, address: PostgreSQLAddress) -> None:
        self._address = address
        self._good = 0
        """Of the hosts, the one that took the last session."""
        self._pause_s = FIRST_PAUSE_S
        self._not_before = 0.0
        self._failure: StoreError | None = None

    async def connect(self) -> Session:
        """A new session.

        Raises:
            Unavailable: no host takes writes.
            Forbidden: these credentials may not.
        """
        clock = asyncio.get_running_loop().time
        if self._failure and clock() < self._not_before:
            raise type(self._failure)(*self._failure.args) from self._failure
        try:
            session = await self._any_host()
        except StoreError as error:
            self._failure = error
            self._not_before = clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            raise
        self._failure, self._pause_s = None, FIRST_PAUSE_S
        return session

    async def _any_host(self) -> Session:
        hosts = self._address.hosts
        failures: list[StoreError] = []
        for number in range(len(hosts)):
            index = (self._good + number) % len(hosts)
            try:
                session = await connect(self._address, hosts[index])
            except StoreError as error:
                failures.append(error)
            else:
                self._good = index
                return session
        if len(failures) == 1:
            raise failures[0]
        kind = Forbidden if all(isinstance(failure, Forbidden) for failure in failures) else Unavailable
        raise kind("; ".join(map(str, failures))) from failures[0]
