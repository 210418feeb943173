"""The one thread that reads, beside the writer's.

A read is a transaction of its own, tried again while the file is busy, and decoded after it, when the file is free.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from datastore.sql import failures
from datastore.sql.file import Access, File
from datastore.sql.lane import Lane, Results, settle

T = TypeVar("T")
S = TypeVar("S")

Query = Callable[[sqlite3.Connection], S]


class Reader:
    """Runs queries in its thread."""

    def __init__(self, access: Access) -> None:
        self._path = access.path
        self._patience_s = access.patience_s
        self._file = File(replace(access, patience_s=0))  # opening it is part of what is tried again
        self._lane: Lane[Callable[[], Results]] = Lane("tortie-sqlite-reader", self._read, self._file.close)

    async def read(self, query: Query[S], finish: Callable[[S], T]) -> T:
        """`finish` of what `query` gives within one transaction; both run in the thread.

        The wait for a busy file counts from this call: reads that queued behind one that waited have waited, too.

        Raises:
            StoreError: as they do; `Unavailable` where SQLite fails.
        """
        asked = time.monotonic()

        def step() -> T:
            return finish(failures.patiently(lambda: self._transact(query), self._patience_s, asked))

        return await self.run(step)

    async def run(self, step: Callable[[], T]) -> T:
        """What `step` gives, run in the thread.

        Raises:
            StoreError: as `step` does; `Unavailable` where SQLite fails.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def work() -> Results:
            outcome = self._outcome(step)
            return lambda: settle(answer, outcome)

        self._lane.put(work)
        return await answer

    async def close(self) -> None:
        """Answer what is queued, then end."""
        await self._lane.close()

    def _read(self, group: Sequence[Callable[[], Results]]) -> Results:
        (work,) = group
        return work()

    def _outcome(self, step: Callable[[], T]) -> T | Exception:
        try:
            return step()
        except Exception as error:  # whatever it is, the caller is told and the thread lives on
            if failures.is_the_files(error) and not failures.is_busy(error):
                self._file.close()
            return failures.before_commit(error, str(self._path))

    def _transact(self, query: Query[S]) -> S:
        connection = self._file.connection()
        connection.execute("BEGIN")
        try:
            return query(connection)
        finally:
            self._file.roll_back()  # nothing was written; COMMIT would do the same and could fail
