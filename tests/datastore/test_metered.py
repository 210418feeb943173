"""A store that is counted is the same store."""

import pytest

from datastore.errors import NotFound
from datastore.memory import MemoryStore
from datastore.metered import MeteredStore
from datastore.resources.kubernetes import Namespace
from datastore.resources.value import Metadata


async def test_each_request_is_told_with_its_outcome() -> None:
    told: list[tuple[str, str]] = []
    store = MeteredStore(MemoryStore(), lambda operation, code, seconds: told.append((operation, code)))
    made = await store.create(Namespace(metadata=Metadata(name="shop")))
    assert (await store.list(Namespace)).items == (made,)
    with pytest.raises(NotFound):
        await store.get(Namespace, "bank")
    await store.delete(await store.update(made))
    assert told == [("create", "ok"), ("list", "ok"), ("get", "NotFound"), ("update", "ok"), ("delete", "ok")]


async def test_a_watch_is_told_when_it_ends() -> None:
    told: list[tuple[str, str]] = []
    store = MeteredStore(MemoryStore(), lambda operation, code, seconds: told.append((operation, code)))
    start = (await store.list(Namespace)).revision
    await store.create(Namespace(metadata=Metadata(name="shop")))
    watching = store.watch(Namespace, start)
    batch = await anext(watching)
    assert [one.name for one in batch.changes] == ["shop"]
    await watching.aclose()
    assert told[-1] == ("watch", "ok")
