"""Several processes on one file: nothing lost, nothing twice, everybody sees the same; and one that is killed."""

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.sql.journal import Journal
from datastore.sql.sqlite import SQLiteStore
from tests.datastore.drivers import PATIENCE_S, PERSIST, WAL, Follower
from tests.datastore.samples import policy
from tests.datastore.worker import ENDPOINTS, INCREMENTS

WORKERS = 4
"""Three agents and a person with the command line."""


ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def worker(role: str, *arguments: object) -> AsyncGenerator[Process, None]:
    """A worker that is gone when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.datastore.worker", role, *map(str, arguments), stdout=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


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
    await store.create(policy("counter", n="0"))
    follower = Follower(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision))
    path = store.status.path
    names = [f"w{number}" for number in range(WORKERS)]
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        starting = [worker("share", path, journal.mode, name, WORKERS) for name in names]
        workers = [await stack.enter_async_context(start) for start in starting]
        said = [(await process.communicate())[0].decode() for process in workers]
    assert [process.returncode for process in workers] == [0] * WORKERS

    listing = await store.list(WorkloadEndpoint)
    held = {(item.namespace, item.name): item for item in listing.items}
    await follower.until(lambda mirror: mirror == held)
    assert said == ["".join(f"{item.name} {item.revision}\n" for _, item in sorted(held.items()))] * WORKERS
    assert len(listing.items) == WORKERS * (ENDPOINTS + 1)
    counter = await store.get(NetworkPolicy, "counter", "shop")
    assert counter.metadata.labels["n"] == str(WORKERS * INCREMENTS)
    assert integrity(path) == "ok"
    await follower.watch.aclose()


async def test_what_a_killed_process_was_told_is_stored_and_seen(store: SQLiteStore, journal: Journal) -> None:
    follower = Follower(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision))
    acknowledged: dict[str, str] = {}
    for life in range(3):
        async with worker("write", store.status.path, journal.mode, f"life{life}") as process:
            assert process.stdout
            lines = [await process.stdout.readline() for _ in range(40 + life)]
            process.kill()
            lines += (await process.communicate())[0].splitlines(keepends=True)
        whole = (line.decode().split() for line in lines if line.endswith(b"\n"))
        acknowledged.update((name, revision) for name, revision in whole)
        await follower.until_sees(max(acknowledged, key=lambda name: (name[:5], int(name.partition("-")[2]))))
    stored = {item.name: item.revision for item in (await store.list(WorkloadEndpoint)).items}
    assert {name: stored[name] for name in acknowledged} == acknowledged
    assert len(set(stored.values())) == len(stored)
    assert len(stored) <= len(acknowledged) + 3  # of each life, one more may have been committed but not told
    assert integrity(store.status.path) == "ok"
    await follower.watch.aclose()
