"""Other connections' commits reach this process's watchers: by inotify, by a timer, and between commits of our own."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from datastore.errors import Unknown
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.sql import news
from datastore.sql.folder import FolderWatch
from datastore.sql.sqlite import SQLiteStore
from tests.datastore.drivers import PATIENCE_S, PERSIST, WAL, Follower
from tests.datastore.samples import endpoint, policy
from tests.datastore.trouble import IOERR, Trouble, on


@pytest.fixture(params=[PERSIST, WAL], ids=["persist", "wal"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[tuple[SQLiteStore, SQLiteStore], None]:
    """Two stores on one file, as two processes have them; nothing wakes a watcher but a bell."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(2):
            stores.append(await SQLiteStore.open(tmp_path / "store.db", bookmark_s=3600.0, journal=request.param))
            stack.push_async_callback(stores[-1].close)
        yield stores[0], stores[1]


@pytest.fixture
def no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "TIMER_S", 3600.0)


def no_inotify(_: Path, __: Callable[[], None]) -> FolderWatch:
    raise OSError(errno.EMFILE, "no inotify instance is left")


async def each_commit_is_seen(store: SQLiteStore, other: SQLiteStore) -> None:
    """Commits of `other`, one at a time, each waited for in `store`."""
    revision = (await store.list(WorkloadEndpoint)).revision
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        follower = Follower(watch)
        for number in range(20):
            await other.create(endpoint(f"e{number}"))
            await follower.until_sees(f"e{number}")


@pytest.mark.usefixtures("no_timer")
async def test_inotify_brings_every_commit_of_another(pair: tuple[SQLiteStore, SQLiteStore]) -> None:
    await each_commit_is_seen(*pair)
    assert pair[0].status.news == "inotify"


async def test_without_inotify_a_timer_brings_them(
    pair: tuple[SQLiteStore, SQLiteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "FolderWatch", no_inotify)
    monkeypatch.setattr(news, "TIMER_ALONE_S", 0.01)
    await each_commit_is_seen(*pair)
    assert pair[0].status.news == "timer"


async def test_when_inotify_says_nothing_the_slow_timer_brings_them(
    pair: tuple[SQLiteStore, SQLiteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderWatch, "_drain", lambda self: None)
    monkeypatch.setattr(news, "TIMER_S", 0.01)
    await each_commit_is_seen(*pair)


@pytest.mark.usefixtures("no_timer")
async def test_a_commit_of_another_between_two_of_ours_is_seen(
    pair: tuple[SQLiteStore, SQLiteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "SETTLE_S", 0.2)  # so that the look comes after our second commit
    store, other = pair
    async with aclosing(store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)) as watch:
        await store.create(policy("first"))
        await Follower(watch).until_sees("first")
    async with aclosing(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision)) as watch:
        seeing = asyncio.create_task(Follower(watch).until_sees("web"))
        await store.create(policy("before"))
        await other.create(endpoint("web"))
        await store.create(policy("after"))
        await seeing


async def test_our_own_commits_need_no_word_from_outside(
    pair: tuple[SQLiteStore, SQLiteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "FolderWatch", no_inotify)
    monkeypatch.setattr(news, "TIMER_ALONE_S", 3600.0)
    await each_commit_is_seen(pair[0], pair[0])


@pytest.mark.usefixtures("no_timer")
async def test_a_process_that_never_stops_writing_still_sees_anothers_commit(
    pair: tuple[SQLiteStore, SQLiteStore],
) -> None:
    store, other = pair
    revision = (await store.list(WorkloadEndpoint)).revision
    current = await store.create(policy())

    async def write_on() -> None:
        nonlocal current
        while True:
            current = await store.update(current)

    writing = asyncio.create_task(write_on())
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        await other.create(endpoint("web"))
        await Follower(watch).until_sees("web")
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


@pytest.mark.usefixtures("no_timer")
async def test_watchers_of_other_kinds_are_left_asleep(pair: tuple[SQLiteStore, SQLiteStore]) -> None:
    store, other = pair
    quiet = asyncio.create_task(anext(store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)))
    await each_commit_is_seen(store, other)
    assert not quiet.done()
    quiet.cancel()
    with pytest.raises(asyncio.CancelledError):
        await quiet


async def test_others_are_told_of_a_commit_that_may_have_landed(tmp_path: Path) -> None:
    trouble = Trouble()
    store = await SQLiteStore.open(tmp_path / "store.db", connection=trouble.connection)
    told = asyncio.Event()
    watch = FolderWatch(tmp_path / "store.db", told.set)
    trouble.after, trouble.fault = True, on("COMMIT", IOERR)
    with pytest.raises(Unknown):
        await store.create(endpoint("landed"))
    async with asyncio.timeout(PATIENCE_S):
        await told.wait()
    watch.close()
    await store.close()


async def test_a_folder_that_was_replaced_is_watched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    store = await SQLiteStore.open(folder / "store.db", bookmark_s=3600.0)
    follower = Follower(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision))
    await store.create(endpoint("first"))
    await follower.until_sees("first")
    folder.rename(tmp_path / "aside")
    folder.mkdir()
    (tmp_path / "aside" / "store.db").rename(folder / "store.db")
    looked_again = asyncio.Event()
    look_again = FolderWatch.look_again

    def noticed(watch: FolderWatch) -> None:
        look_again(watch)
        looked_again.set()
        monkeypatch.setattr(news, "TIMER_S", 3600.0)

    monkeypatch.setattr(FolderWatch, "look_again", noticed)
    monkeypatch.setattr(news, "TIMER_S", 0.01)
    await store.create(endpoint("second"))  # wakes the news from the long sleep it began before
    async with asyncio.timeout(PATIENCE_S):
        await looked_again.wait()
    other = await SQLiteStore.open(folder / "store.db")
    await other.create(endpoint("third"))
    await follower.until_sees("third")
    await asyncio.gather(store.close(), other.close())


async def test_only_the_database_itself_is_listened_to(tmp_path: Path) -> None:
    database, journal = tmp_path / "store.db", tmp_path / "store.db-journal"
    database.touch()
    journal.touch()
    heard: list[str] = []
    watch = FolderWatch(database, lambda: heard.append("touched"))
    for path, count in ((journal, 0), (database, 1), (journal, 1), (database, 2)):
        os.utime(path)
        for _ in range(3):  # the event is queued already: the loop finds it at its next turn
            await asyncio.sleep(0)
        assert len(heard) == count
    watch.close()
