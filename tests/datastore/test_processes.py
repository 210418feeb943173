"""Several processes on one file: nothing lost, nothing twice, everybody sees the same; and one that is killed."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from datastore.sql.journal import Journal
from datastore.sql.sqlite import SQLiteStore
from tests.datastore.drivers import PERSIST, WAL
from tests.datastore.processes import write_together, write_until_killed


@pytest.fixture(params=[PERSIST, WAL], ids=["persist", "wal"])
def journal(request: pytest.FixtureRequest) -> Journal:
    found: Journal = request.param
    return found


@pytest.fixture
async def store(tmp_path: Path, journal: Journal) -> AsyncGenerator[SQLiteStore, None]:
    async with AsyncExitStack() as stack:
        opened = await SQLiteStore.open(tmp_path / "store.db", journal=journal)
        stack.push_async_callback(opened.close)
        yield opened


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (word,) = connection.execute("PRAGMA integrity_check").fetchone()
    return str(word)


async def test_processes_that_write_together_lose_nothing_and_see_the_same(
    store: SQLiteStore, journal: Journal
) -> None:
    await write_together(store, f"{journal.mode}:{store.status.path}")
    assert integrity(store.status.path) == "ok"


async def test_what_a_killed_process_was_told_is_stored_and_seen(store: SQLiteStore, journal: Journal) -> None:
    await write_until_killed(store, f"{journal.mode}:{store.status.path}")
    assert integrity(store.status.path) == "ok"
