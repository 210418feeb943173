"""The store that fails on purpose fails as it says."""

import pytest

from datastore.errors import Conflict, NotFound, Unavailable, Unknown
from datastore.memory import MemoryStore
from datastore.resources.networkpolicy import NetworkPolicy
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.datastore.samples import policy


def store_with(fate: Fate) -> FaultyStore:
    async def gate(_: Call) -> Fate:
        return fate

    return FaultyStore(MemoryStore(), gate)


@pytest.mark.parametrize(
    ("fate", "error", "applied"),
    [
        pytest.param(Fate.REFUSED, Unavailable, False, id="refused"),
        pytest.param(Fate.LOST, Unknown, False, id="lost"),
        pytest.param(Fate.LOST_APPLIED, Unknown, True, id="applied, answer lost"),
        pytest.param(Fate.LOST_LATER, Unknown, False, id="on its way"),
    ],
)
async def test_a_write_has_its_fate(fate: Fate, error: type[Exception], applied: bool) -> None:
    store = store_with(fate)
    with pytest.raises(error):
        await store.create(policy())
    assert len((await store.inner.list(NetworkPolicy)).items) == applied


async def test_a_late_write_lands_when_the_test_says() -> None:
    store = store_with(Fate.LOST_LATER)
    with pytest.raises(Unknown):
        await store.create(policy())
    await store.land()
    assert (await store.inner.get(NetworkPolicy, "db", "shop")).name == "db"
    assert store.late == []


async def test_a_late_write_that_comes_too_late_changes_nothing() -> None:
    inner = MemoryStore()
    first = await inner.create(policy())
    store = FaultyStore(inner, store_with(Fate.LOST_LATER).gate)
    with pytest.raises(Unknown):
        await store.delete(first)
    second = await inner.update(first)
    await store.land()
    assert await inner.get(NetworkPolicy, "db", "shop") == second


@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.OK])
async def test_a_read_without_an_answer_is_unavailable(fate: Fate) -> None:
    store = store_with(fate)
    with pytest.raises(Unavailable):
        await store.get(NetworkPolicy, "db", "shop")
    with pytest.raises(Unavailable):
        await store.list(NetworkPolicy)


async def test_the_gate_sees_every_call() -> None:
    seen: list[tuple[str, str]] = []

    async def gate(call: Call) -> Fate:
        seen.append((call.verb, call.key))
        return Fate.OK

    store = FaultyStore(MemoryStore(), gate)
    made = await store.create(policy())
    changed = await store.update(made)
    with pytest.raises(Conflict):
        await store.delete(made)
    await store.delete(changed)
    with pytest.raises(NotFound):
        await store.get(NetworkPolicy, "db", "shop")
    await store.list(NetworkPolicy)
    key = "NetworkPolicy shop/db"
    assert [verb for verb, _ in seen] == ["create", "update", "delete", "delete", "get", "list"]
    assert {found for _, found in seen} == {key, "NetworkPolicy"}
