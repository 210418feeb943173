"""Going where a datastore was moved to, by the note in a state folder or by the mark in the datastore that was left."""

import logging
from pathlib import Path

import pytest

from datastore.errors import StoreError
from datastore.resources.clusterconfiguration import Migration
from datastore.store import Store
from datastore.transfer import follow, mark
from datastore.transfer.copying import Side
from datastore.transfer.migrate import migrate
from datastore.urls import open_store
from tests.datastore.samples import ip_block, policy


def url(folder: Path, name: str) -> str:
    return f"sqlite://{folder}/{name}.db"


def untold(_: str) -> None:
    pass


async def moved(folder: Path, source: str, target: str) -> None:
    """A move from one file to another, the source made if need be."""
    urls = url(folder, source), url(folder, target)
    stores = [await open_store(one) for one in urls]
    await migrate(Side(stores[0], urls[0]), Side(stores[1], urls[1]), untold)
    for store in stores:
        await store.close()


async def where(folder: Path, configured: str, state: Path | None) -> str:
    store, found = await follow.open_followed(url(folder, configured), state)
    await store.close()
    return Path(found).stem


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


async def test_a_datastore_that_was_not_moved_is_opened(tmp_path: Path, state: Path) -> None:
    assert await where(tmp_path, "a", state) == "a"
    assert list(state.iterdir()) == []


async def test_the_mark_is_followed_and_noted(tmp_path: Path, state: Path) -> None:
    await moved(tmp_path, "a", "b")
    assert await where(tmp_path, "a", state) == "b"
    assert follow.followed(state, url(tmp_path, "a")) == url(tmp_path, "b")
    assert [one.stat().st_mode & 0o777 for one in state.iterdir()] == [0o600]


async def test_the_note_serves_when_the_old_one_is_gone(tmp_path: Path, state: Path) -> None:
    await moved(tmp_path, "a", "b")
    await where(tmp_path, "a", state)
    (tmp_path / "a.db").unlink()
    assert await where(tmp_path, "a", state) == "b"
    assert not (tmp_path / "a.db").exists()


async def test_several_moves_are_followed_at_once_or_one_by_one(tmp_path: Path, state: Path) -> None:
    await moved(tmp_path, "a", "b")
    assert await where(tmp_path, "a", state) == "b"
    await moved(tmp_path, "b", "c")
    assert await where(tmp_path, "a", state) == "c"
    assert await where(tmp_path, "a", None) == "c"
    assert follow.followed(state, url(tmp_path, "a")) == url(tmp_path, "c")


async def test_coming_back_is_followed_too(tmp_path: Path, state: Path) -> None:
    await moved(tmp_path, "a", "b")
    await where(tmp_path, "a", state)
    await moved(tmp_path, "b", "a")
    assert await where(tmp_path, "a", state) == "a"
    assert await where(tmp_path, "a", state) == "a"


def test_a_note_about_another_configuration_counts_for_nothing(state: Path) -> None:
    follow.note(state, "sqlite:///a.db", "sqlite:///b.db")
    assert follow.followed(state, "sqlite:///c.db") == "sqlite:///c.db"


@pytest.mark.parametrize("text", ["", "{", '{"from": 1, "to": 2}', "[]"])
def test_a_note_that_makes_no_sense_is_told_and_passed_over(
    state: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (state / follow.NAME).write_text(text)
    with caplog.at_level(logging.WARNING):
        assert follow.followed(state, "sqlite:///a.db") == "sqlite:///a.db"
    assert "can't be read" in caplog.text


async def test_one_that_cannot_be_used_is_not_followed(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(url(tmp_path, "a"))
    gone = Migration(id="m1", to="sqlite:///proc/none/x.db", phase="Moved")
    await mark.write(store, mark.marked(None, gone))
    assert await follow.destination(store) == ""
    await store.close()
    assert await where(tmp_path, "a", state) == "a"
    assert "can't be used" in caplog.text


async def test_one_that_is_not_of_that_move_is_not_followed(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as an empty one, where a file was mistyped or isn't mounted."""
    await moved(tmp_path, "a", "b")
    (tmp_path / "b.db").unlink()
    assert await where(tmp_path, "a", state) == "a"
    assert "isn't of that move" in caplog.text


async def test_a_target_whose_migrator_died_is_opened_by_who_follows(tmp_path: Path, state: Path) -> None:
    class Dies(Exception):
        pass

    class Mortal:
        """Of the target nothing more is written once the source was left."""

        def __init__(self, inner: Store) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        async def update(self, resource: object) -> object:
            if mark.migration_of(resource) is None:  # type: ignore[arg-type]
                raise Dies
            return await self.inner.update(resource)  # type: ignore[type-var]

    source, target = await open_store(url(tmp_path, "a")), await open_store(url(tmp_path, "b"))
    for one in (ip_block(), policy()):
        await source.create(one)
    with pytest.raises(Dies):
        await migrate(Side(source, url(tmp_path, "a")), Side(Mortal(target), url(tmp_path, "b")), untold)  # type: ignore[arg-type]
    assert mark.migration_of(await mark.read(target)) is not None
    assert await where(tmp_path, "a", state) == "b"
    assert mark.migration_of(await mark.read(target)) is None
    await source.close()
    await target.close()


async def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await moved(tmp_path, "a", "b")
    assert await where(tmp_path, "a", Path("/proc/none")) == "b"
    assert "can't be noted" in caplog.text


async def test_an_address_that_cannot_be_opened_raises_what_it_does(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await follow.open_followed("sqlite:///proc/none/x.db", tmp_path)
