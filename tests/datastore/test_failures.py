"""When SQLite fails: what callers are told, what was applied, and that the store lives on."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from datastore.errors import Invalid, StoreError, Unavailable, Unknown
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata
from datastore.sql.sqlite import SQLiteStore
from datastore.store import Where
from tests.datastore.drivers import PATIENCE_S, PERSIST
from tests.datastore.samples import policy
from tests.datastore.trouble import IOERR, Trouble, no_fault, on, result_of


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, trouble: Trouble) -> AsyncGenerator[SQLiteStore, None]:
    """A store whose connections are in `trouble`, and that is patient for 0.05 s."""
    async with AsyncExitStack() as stack:
        opened = await SQLiteStore.open(
            path, patience_s=0.05, journal=PERSIST, connection=trouble.connection, bookmark_s=0.01
        )
        stack.push_async_callback(opened.close)
        yield opened


# A locked file


async def test_past_its_patience_a_locked_file_is_unavailable_and_nothing_was_applied(
    store: SQLiteStore, path: Path
) -> None:
    first = await store.create(policy())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for call in (
            store.get(NetworkPolicy, "db", "shop"),
            store.list(NetworkPolicy),
            store.create(policy("other")),
            store.update(first),
            store.delete(first),
        ):
            with pytest.raises(Unavailable, match="SQLITE_BUSY"):
                await call
    assert (await store.list(NetworkPolicy)).items == (first,)


async def test_reads_that_wait_for_a_locked_file_wait_at_the_same_time(store: SQLiteStore, path: Path) -> None:
    reads = 100
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(reads * 0.05 / 4):
            asked = [store.get(NetworkPolicy, "db", "shop") for _ in range(reads)]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}


async def test_a_reader_elsewhere_that_holds_up_a_commit_makes_it_unavailable_and_not_applied(
    store: SQLiteStore, path: Path
) -> None:
    first = await store.create(policy())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM object").fetchall()
        with pytest.raises(Unavailable, match="SQLITE_BUSY"):
            await store.update(first)
    assert await store.get(NetworkPolicy, "db", "shop") == first
    await store.update(first)


async def test_a_file_that_is_free_again_in_time_is_no_failure(path: Path, trouble: Trouble) -> None:
    store = await SQLiteStore.open(path, journal=PERSIST, connection=trouble.connection, patience_s=PATIENCE_S)
    loop, tried_again = asyncio.get_running_loop(), asyncio.Event()
    trouble.seen.clear()

    def notice(_: str, __: object) -> Exception | None:
        if len(trouble.seen) == 3:
            loop.call_soon_threadsafe(tried_again.set)
        return None

    trouble.fault = notice
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        writing = asyncio.ensure_future(store.create(policy()))
        async with asyncio.timeout(PATIENCE_S):
            await tried_again.wait()
    await writing
    await store.close()


# A full disk, a file nobody may write, a file that is broken, a commit that fails


def large(name: str) -> NetworkPolicy:
    """A policy of 200 KB."""
    return NetworkPolicy(metadata=Metadata(name=name, namespace="shop", annotations={"note": "x" * 200_000}))


async def test_a_full_disk_is_unavailable_and_what_still_fits_is_stored(store: SQLiteStore, trouble: Trouble) -> None:
    trouble.set_up = "PRAGMA max_page_count = 20"
    first = await store.create(policy())
    with pytest.raises(Unavailable, match="SQLITE_FULL"):
        await store.create(large("large"))
    assert (await store.list(NetworkPolicy)).items == (first,)
    await store.update(first)


async def test_a_disk_that_is_full_at_the_commit_is_unavailable(store: SQLiteStore, trouble: Trouble) -> None:
    full = result_of(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "SQLITE_FULL")
    trouble.fault = on("COMMIT", full)
    with pytest.raises(Unavailable, match="SQLITE_FULL"):
        await store.create(policy())
    trouble.fault = no_fault
    assert (await store.list(NetworkPolicy)).items == ()


async def test_a_file_that_nobody_may_write_can_be_read(store: SQLiteStore, trouble: Trouble) -> None:
    trouble.set_up = "PRAGMA query_only = ON"
    with pytest.raises(Unavailable, match="readonly"):
        await store.create(policy())
    assert (await store.list(NetworkPolicy)).items == ()


async def test_a_broken_file_is_unavailable(store: SQLiteStore, path: Path) -> None:
    for number in range(50):
        await store.create(policy(f"p{number}"))
    await store.close()
    with path.open("r+b") as file:
        file.seek(8 * 4096)  # past the tables' first pages, which opening reads
        file.write(b"\xff" * (path.stat().st_size - 8 * 4096))
    broken = await SQLiteStore.open(path, journal=PERSIST)
    with pytest.raises(Unavailable, match="malformed"):
        await broken.list(NetworkPolicy)
    with pytest.raises(Unavailable, match="malformed"):
        await broken.create(policy())
    await broken.close()


@pytest.mark.parametrize("landed", [True, False], ids=["it landed", "it didn't"])
async def test_an_io_error_at_the_commit_is_unknown(store: SQLiteStore, trouble: Trouble, landed: bool) -> None:
    trouble.after, trouble.fault = landed, on("COMMIT", IOERR)
    with pytest.raises(Unknown, match="SQLITE_IOERR_FSYNC"):
        await store.create(policy())
    trouble.fault = no_fault
    assert len((await store.list(NetworkPolicy)).items) == landed


async def test_a_commit_that_failed_is_not_tried_again(store: SQLiteStore, trouble: Trouble) -> None:
    trouble.fault = on("COMMIT", IOERR)
    trouble.seen.clear()
    with pytest.raises(Unknown):
        await store.create(policy())
    assert trouble.seen.count("COMMIT") == 1
    assert trouble.seen.count("INSERT") == trouble.seen.count("BEGIN") + 1  # the log entry, and the object


# Groups


async def queued(store: SQLiteStore, path: Path, names: list[str]) -> list[NetworkPolicy | BaseException]:
    """The results of creating policies that had all been queued before the first commit: [the first], [all others]."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        writing = [asyncio.ensure_future(store.create(policy(name))) for name in names]
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        return await asyncio.gather(*writing, return_exceptions=True)


async def test_what_is_queued_during_a_commit_is_committed_together(path: Path, trouble: Trouble) -> None:
    store = await SQLiteStore.open(path, journal=PERSIST, connection=trouble.connection)
    trouble.seen.clear()
    await queued(store, path, [f"p{number}" for number in range(100)])
    assert trouble.seen.count("COMMIT") <= 2
    assert len((await store.list(NetworkPolicy)).items) == 100
    await store.close()


async def test_a_write_that_sqlite_refuses_doesnt_fail_those_beside_it(path: Path, trouble: Trouble) -> None:
    store = await SQLiteStore.open(path, journal=PERSIST, connection=trouble.connection)
    too_big = result_of(sqlite3.DataError, sqlite3.SQLITE_TOOBIG, "SQLITE_TOOBIG")
    trouble.fault = lambda verb, values: too_big if verb == "INSERT" and values.get("name") == "bad" else None
    results = await queued(store, path, ["first", "a", "bad", "b"])
    assert [type(result).__name__ for result in results] == [*["NetworkPolicy"] * 2, "Unavailable", "NetworkPolicy"]
    assert {found.name for found in (await store.list(NetworkPolicy)).items} == {"first", "a", "b"}
    await store.close()


async def test_a_caller_that_was_cancelled_doesnt_cost_those_beside_it_their_answer(store: SQLiteStore) -> None:
    writing = [asyncio.ensure_future(store.create(policy(f"p{number}"))) for number in range(4)]
    await asyncio.sleep(0)
    writing[1].cancel()
    await asyncio.gather(writing[0], writing[2], writing[3])
    assert len((await store.list(NetworkPolicy)).items) == 4


# Nothing else leaks

ERRORS = [
    IOERR,
    result_of(sqlite3.OperationalError, sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN"),
    result_of(sqlite3.OperationalError, sqlite3.SQLITE_READONLY_DBMOVED, "SQLITE_READONLY_DBMOVED"),
    result_of(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"),
    result_of(sqlite3.DatabaseError, sqlite3.SQLITE_NOTADB, "SQLITE_NOTADB"),
    result_of(sqlite3.DataError, sqlite3.SQLITE_TOOBIG, "SQLITE_TOOBIG"),
    result_of(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_UNIQUE, "SQLITE_CONSTRAINT_UNIQUE"),
    result_of(sqlite3.InterfaceError, sqlite3.SQLITE_MISUSE, "SQLITE_MISUSE"),
    sqlite3.ProgrammingError("Cannot operate on a closed database."),
    sqlite3.InternalError("internal"),
    sqlite3.NotSupportedError("not supported"),
    sqlite3.Warning("warning"),
    MemoryError(),
    OverflowError("int too large"),
    OSError(28, "No space left on device"),
    RuntimeError("a fault of ours"),
]


@pytest.mark.parametrize("verb", ["BEGIN", "SELECT", "INSERT", "UPDATE", "DELETE", "COMMIT", "ROLLBACK"])
async def test_no_exception_of_a_library_leaks_and_the_store_lives_on(
    store: SQLiteStore, trouble: Trouble, verb: str
) -> None:
    for number, error in enumerate(ERRORS):
        first = await store.create(policy(f"first-{number}"))
        watch = store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)
        trouble.fault = on(verb, error)
        calls = [
            store.get(NetworkPolicy, first.name, "shop"),
            store.list(NetworkPolicy),
            store.create(policy(f"second-{number}")),
            store.update(first),
            store.delete(first),
            anext(watch),
        ]
        outcomes = [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
        trouble.fault = no_fault
        raised = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [found for found in raised if not isinstance(found, StoreError)] == []
        assert [found for found in raised if isinstance(found, Unavailable | Unknown) and not found.__cause__] == []
        assert verb == "COMMIT" or not any(isinstance(found, Unknown) for found in raised)
        await store.create(policy(f"after-{number}"))
        assert (await store.get(NetworkPolicy, f"after-{number}", "shop")).name == f"after-{number}"


async def test_text_that_sqlite_cannot_take_is_invalid(store: SQLiteStore) -> None:
    with pytest.raises(Invalid, match="Unicode"):
        await store.list(NetworkPolicy, Where("namespace", "\ud800"))


async def test_a_stored_object_that_cannot_be_read_is_named(store: SQLiteStore, path: Path) -> None:
    await store.create(policy())
    with closing(sqlite3.connect(path)) as other:
        other.execute("""UPDATE object SET body = CAST('{"apiVersion":"v1"}' AS BLOB)""")
        other.commit()
    for call in (store.get(NetworkPolicy, "db", "shop"), store.list(NetworkPolicy)):
        with pytest.raises(Invalid, match="stored as NetworkPolicy shop/db"):
            await call
