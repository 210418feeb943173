"""The file: who may read it, what is refused, and what stays when it is opened again."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path
from typing import Protocol

import pytest

from datastore.errors import Compacted, Conflict, NotFound, Unavailable
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.sql import news, schema
from datastore.sql.journal import Journal, journal_for
from datastore.sql.sqlite import SQLiteStore
from tests.datastore.drivers import PERSIST, WAL, Follower
from tests.datastore.samples import policy


class OpenFile(Protocol):
    async def __call__(self, other: Path | None = None, *, keep: int = 1000) -> SQLiteStore: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.db"


@pytest.fixture
async def open_file(path: Path) -> AsyncGenerator[OpenFile, None]:
    async with AsyncExitStack() as stack:

        async def open_(other: Path | None = None, *, keep: int = 1000) -> SQLiteStore:
            store = await SQLiteStore.open(other or path, keep=keep)
            stack.push_async_callback(store.close)
            return store

        yield open_


async def test_only_its_owner_may_read_the_file_and_its_journal(path: Path, open_file: OpenFile) -> None:
    store = await open_file()
    await store.create(policy())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    assert len(files) > 1
    assert set(files.values()) == {0o600}


async def test_a_folder_that_is_there_keeps_its_mode(path: Path, open_file: OpenFile) -> None:
    path.parent.mkdir(mode=0o755)
    await open_file()
    assert path.parent.stat().st_mode & 0o777 == 0o755


async def test_what_was_stored_is_there_when_the_file_is_opened_again(open_file: OpenFile) -> None:
    store = await open_file()
    created = await store.create(policy())
    revision = (await store.list(NetworkPolicy)).revision
    await store.close()
    again = await open_file()
    assert await again.get(NetworkPolicy, "db", "shop") == created
    changed = await again.update(created)
    async with aclosing(again.watch(NetworkPolicy, revision)) as watch:
        assert (await anext(watch)).changes == (changed,)


async def test_no_revision_comes_twice_though_the_log_is_compacted_and_the_file_opened_again(
    open_file: OpenFile,
) -> None:
    seen = []
    for _ in range(4):
        store = await open_file(keep=1)
        created = await store.create(policy())
        await store.delete(created)
        seen.append(created.revision)
        await store.close()
    assert len(set(seen)) == 4


async def test_closing_commits_what_is_queued_and_ends_the_threads(open_file: OpenFile) -> None:
    store = await open_file()
    writing = [store.create(policy(f"p{number}")) for number in range(50)]
    futures = [asyncio.ensure_future(write) for write in writing]
    await asyncio.sleep(0)
    await store.close()
    assert all(future.done() and not future.exception() for future in futures)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tortie")]


async def test_status_says_which_journal_and_why(open_file: OpenFile, path: Path) -> None:
    store = await open_file()
    assert store.status.path == path
    assert store.status.library == sqlite3.sqlite_version
    assert store.status.journal == journal_for(sqlite3.sqlite_version_info)
    assert store.status.news == "nowhere: nothing is watched"
    async with aclosing(store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)) as watch:
        await store.create(policy())
        await anext(watch)
        assert store.status.news == "inotify"


@pytest.mark.parametrize(("journal", "mode"), [(WAL, "wal"), (PERSIST, "delete")], ids=["wal", "persist"])
async def test_a_file_is_left_in_its_journal_mode(path: Path, journal: Journal, mode: str) -> None:
    await (await SQLiteStore.open(path, journal=journal)).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)


async def test_a_library_without_the_fix_doesnt_join_others_in_a_wal(path: Path) -> None:
    with_fix = await SQLiteStore.open(path, journal=WAL)
    await with_fix.create(policy())
    with pytest.raises(Unavailable, match="locked"):
        await SQLiteStore.open(path, journal=PERSIST, patience_s=0.05)
    await with_fix.close()
    without = await SQLiteStore.open(path, journal=PERSIST)
    assert (await without.get(NetworkPolicy, "db", "shop")).name == "db"
    await without.close()


def altered(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def test_even_with_its_log_emptied_a_file_gives_no_revision_twice(path: Path, open_file: OpenFile) -> None:
    store = await open_file()
    before = await store.create(policy())
    altered(path, "DELETE FROM change")
    after = await store.create(policy("other"))
    assert after.revision != before.revision


async def test_a_newer_versions_file_is_refused(path: Path, open_file: OpenFile) -> None:
    await (await open_file()).close()
    altered(path, "UPDATE store SET schema = schema + 1")
    with pytest.raises(Unavailable, match=f"schema {schema.VERSION + 1}.*newer version.*reads {schema.VERSION}"):
        await open_file()


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, open_file: OpenFile) -> None:
    other = tmp_path / "other.db"
    altered(other, "CREATE TABLE bookmarks (url TEXT)")
    before = other.read_bytes()
    with pytest.raises(Unavailable, match="another program's"):
        await open_file(other)
    assert other.read_bytes() == before


async def test_what_is_no_database_is_refused(tmp_path: Path, open_file: OpenFile) -> None:
    (tmp_path / "text").write_text("not a database, but longer than the header of one" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        await open_file(tmp_path / "text")


async def test_a_folder_cannot_be_opened(tmp_path: Path, open_file: OpenFile) -> None:
    with pytest.raises(Unavailable, match="unable to open"):
        await open_file(tmp_path)


async def test_a_file_below_a_file_cannot_be_made(tmp_path: Path, open_file: OpenFile) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"[Nn]ot a directory|File exists"):
        await open_file(tmp_path / "file" / "store.db")


async def test_two_who_make_one_file_at_once_share_it(path: Path) -> None:
    one, other = await asyncio.gather(SQLiteStore.open(path), SQLiteStore.open(path))
    created = await one.create(policy())
    assert await other.get(NetworkPolicy, "db", "shop") == created
    await asyncio.gather(one.close(), other.close())


async def test_a_replaced_file_is_noticed_by_readers_writers_and_watchers(
    tmp_path: Path, path: Path, open_file: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "TIMER_S", 3600.0)
    store = await open_file()
    old = await store.create(policy())
    watch = store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)
    waiting = asyncio.ensure_future(anext(watch))
    await store.update(old)
    await waiting

    fresh = await open_file(tmp_path / "fresh.db")
    new = await fresh.create(policy(team="red"))
    await fresh.close()
    (tmp_path / "fresh.db").replace(path)

    with pytest.raises(Compacted):
        await Follower(watch).next()
    assert await store.get(NetworkPolicy, "db", "shop") == new
    with pytest.raises(Conflict):
        await store.update(old)
    await store.update(new)


async def test_a_file_that_was_removed_is_unavailable_until_it_is_back(
    tmp_path: Path, path: Path, open_file: OpenFile
) -> None:
    store = await open_file()
    created = await store.create(policy())
    path.rename(tmp_path / "aside")
    with pytest.raises(Unavailable, match="No such file"):
        await store.get(NetworkPolicy, "db", "shop")
    with pytest.raises(Unavailable, match="No such file"):
        await store.update(created)
    (tmp_path / "aside").rename(path)
    await store.update(created)
    with pytest.raises(NotFound):
        await store.get(NetworkPolicy, "other", "shop")
