"""WorkloadEndpoints are written beside ADD, deleted with DEL, and put right at start."""

import asyncio

import msgspec
import pytest

from agent.endpoints import endpoint_name
from agent.publish import Publisher
from datastore.errors import NotFound, Unavailable, Unknown
from datastore.memory import MemoryStore
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from tests.agent.test_graph import record


async def stored(store: MemoryStore) -> dict[str, WorkloadEndpoint]:
    return {one.spec.pod: one for one in (await store.list(WorkloadEndpoint)).items}


async def test_an_endpoint_is_published_with_what_policies_and_people_need() -> None:
    store = MemoryStore()
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    found = (await stored(store))["db"]
    assert found.name == endpoint_name(record())
    assert (found.spec.node, found.spec.addresses, dict(found.metadata.labels)) == (
        "node-1",
        ("10.65.0.1",),
        {"app": "db"},
    )
    assert [(port.name, port.port, port.protocol) for port in found.spec.ports] == [("postgres", 5432, "TCP")]


async def test_publishing_again_updates() -> None:
    store = MemoryStore()
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    publisher.publish(record("db", "10.65.0.9"))
    await publisher.close()
    assert (await stored(store))["db"].spec.addresses == ("10.65.0.9",)


async def test_withdrawing_waits_for_a_publishing_under_way_and_twice_is_once() -> None:
    store = MemoryStore()
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    for _ in range(2):
        await publisher.withdraw(record())
    assert await stored(store) == {}


async def test_withdrawing_what_somebody_else_changed_works() -> None:
    store = MemoryStore()
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    await store.update((await stored(store))["db"])
    await publisher.withdraw(record())
    assert await stored(store) == {}


async def test_at_start_missing_ones_are_written_and_those_nobody_has_are_withdrawn() -> None:
    store = MemoryStore()
    earlier = Publisher(store, "node-1")
    for one in (record("old"), record("db", "10.65.0.7")):
        earlier.publish(one)
    elsewhere = Publisher(store, "node-2")
    elsewhere.publish(record("other"))
    await asyncio.gather(earlier.close(), elsewhere.close())
    await Publisher(store, "node-1").reconcile([record("db", "10.65.0.1"), record("new")])
    found = await stored(store)
    assert set(found) == {"db", "new", "other"}
    assert found["db"].spec.addresses == ("10.65.0.1",)


class Bad(MemoryStore):
    """Fails the first writes, one way or another."""

    def __init__(self, failures: list[Exception]) -> None:
        super().__init__()
        self.failures = failures

    async def create(self, resource):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        if self.failures:
            raise self.failures.pop(0)
        return await super().create(resource)

    async def delete(self, resource: Resource) -> None:
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Unknown):
                await super().delete(resource)
            raise failure
        await super().delete(resource)


async def test_a_store_that_is_away_for_a_moment_is_tried_again() -> None:
    store = Bad([Unavailable("away"), Unknown("lost")])
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    assert set(await stored(store)) == {"db"}


async def test_an_endpoint_is_written_once_the_store_is_back_however_long_that_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.publish._FIRST_PAUSE_S", 0.001)
    store = Bad([Unavailable("away")] * 20)
    publisher = Publisher(store, "node-1")
    keeping_up = asyncio.create_task(publisher.run(0.01))
    publisher.publish(record())
    async with asyncio.timeout(5):
        while "db" not in await stored(store):
            await asyncio.sleep(0.01)
    keeping_up.cancel()
    assert store.failures == []


class Slow(MemoryStore):
    """Its first create takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.creates = 0
        self.go_on = asyncio.Event()

    async def create(self, resource):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        self.creates += 1
        if self.creates == 1:
            await self.go_on.wait()
        return await super().create(resource)


async def test_a_first_writing_that_is_still_under_way_is_not_overtaken_and_leaves_nothing_behind() -> None:
    store = Slow()
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    publisher.publish(record("db", "10.65.0.9"))
    withdrawing = asyncio.ensure_future(publisher.withdraw(record()))
    await asyncio.sleep(0.02)
    store.go_on.set()
    await withdrawing
    await asyncio.sleep(0.02)
    assert await stored(store) == {}


async def test_what_was_withdrawn_meanwhile_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.publish._FIRST_PAUSE_S", 0.001)
    store = Bad([Unavailable("away")] * 8)
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    assert store.failures == []
    await publisher.withdraw(record())
    keeping_up = asyncio.create_task(publisher.run(0.01))
    await asyncio.sleep(0.1)
    keeping_up.cancel()
    assert await stored(store) == {}


async def test_a_lost_answer_to_a_delete_is_settled() -> None:
    store = Bad([])
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    store.failures = [Unknown("lost")]
    await publisher.withdraw(record())
    assert await stored(store) == {}


async def test_with_the_store_away_withdrawing_says_so() -> None:
    store = Bad([])
    publisher = Publisher(store, "node-1")
    publisher.publish(record())
    await publisher.close()
    store.failures = [Unavailable("away")]
    with pytest.raises(Unavailable):
        await publisher.withdraw(record())
    await publisher.withdraw(record())
    with pytest.raises(NotFound):
        await store.get(WorkloadEndpoint, endpoint_name(record()), "shop")


async def test_an_endpoint_that_cannot_be_published_keeps_no_other_from_it() -> None:
    store = MemoryStore()
    publisher = Publisher(store, "node-1")
    odd = msgspec.structs.replace(record("odd", "10.65.0.2"), interface="eth+1")
    await publisher.reconcile([odd, record()])
    assert set(await stored(store)) == {"db"}
