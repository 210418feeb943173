"""Looking a datastore over: each driver passes, beside writers too, and a store that breaks the contract doesn't."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from datastore.codec import stamped
from datastore.errors import Conflict, Forbidden
from datastore.memory import MemoryStore
from datastore.resources.ipreservation import IPReservation
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Revision, Store, Where
from datastore.transfer import verify
from datastore.transfer.verify import check
from tests.datastore.drivers import DRIVERS
from tests.datastore.samples import endpoint, ip_block, moved, policy, relabelled

R = TypeVar("R", bound=Resource)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_each_driver_passes_beside_a_writer(driver: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        store = await DRIVERS[driver](tmp_path, stack)()
        for one in (ip_block(borrowers=("node-2",)), policy(), endpoint("web")):
            await store.create(one)
        writing = asyncio.create_task(write_on(store))
        for _ in range(3):
            checked = await check(store)
            assert checked.flaws == []
            assert (checked.counts["networkpolicies.networking.k8s.io"], checked.untried) == (1, "")
            assert checked.write_s is not None
        assert (await store.list(IPReservation)).items == ()
        assert not writing.done()
        writing.cancel()


async def write_on(store: Store) -> None:
    """An endpoint that goes from node to node, and is found by its node each time."""
    for number in count():
        found = await store.get(type(endpoint("web")), "web", "shop")
        await store.update(moved(found, f"node-{number % 2}"))


class Careless(MemoryStore):
    """Does a write at whatever revision."""

    async def update(self, resource: R) -> R:
        found = await self.get(type(resource), resource.name, resource.namespace)
        return await super().update(stamped(resource, found.revision))

    async def delete(self, resource: Resource) -> None:
        found = await self.get(type(resource), resource.name, resource.namespace)
        await super().delete(stamped(resource, found.revision))


class Silent(MemoryStore):
    """Its watches tell nothing."""

    async def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        await asyncio.Event().wait()
        yield Batch((), start)


class Still(MemoryStore):
    """Its revisions stand still."""

    async def update(self, resource: R) -> R:
        written = await super().update(resource)
        return stamped(written, resource.revision)


class Forgetful(MemoryStore):
    """Loses what is changed."""

    async def update(self, resource: R) -> R:
        return await super().update(relabelled(resource))

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return relabelled(await super().get(kind, name, namespace), lost="all")


class TwoStates(MemoryStore):
    """Gives another state of an object at the same revision, where it is asked by its namespace."""

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        listing = await super().list(kind, where)
        return (
            Listing(tuple(relabelled(one, other="one") for one in listing.items), listing.revision)
            if where
            else listing
        )


class Split(MemoryStore):
    """Of which one kind is another store's."""

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        listing = await super().list(kind, where)
        return Listing(listing.items, Revision("1-another")) if kind is NetworkPolicy else listing


@pytest.mark.parametrize(
    ("store", "words"),
    [
        pytest.param(Careless(), "a write at an old revision was done", id="no compare-and-swap"),
        pytest.param(Silent(), "a watch doesn't tell that it was created", id="a silent watch"),
        pytest.param(Still(), "a write left it at revision", id="a revision that names two states"),
        pytest.param(Forgetful(), "it isn't as it was last written", id="a write that is lost"),
        pytest.param(TwoStates(), "has two states at revision", id="two states at one revision"),
        pytest.param(Split(), "is of a store another", id="two stores"),
    ],
)
async def test_a_store_that_breaks_the_contract_is_told(
    store: MemoryStore, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "WATCH_S", 0.05)
    await store.create(policy())
    assert any(words in flaw.what for flaw in (await check(store)).flaws)


async def test_who_may_not_write_is_told_that_writes_were_not_tried() -> None:
    class ReadOnly(MemoryStore):
        async def create(self, resource: R) -> R:
            raise Forbidden("these credentials may only read")

    checked = await check(ReadOnly())
    assert (checked.flaws, checked.untried) == ([], "these credentials may only read")


async def test_what_goes_wrong_half_way_leaves_no_scratch_object_behind() -> None:
    class Full(MemoryStore):
        async def update(self, resource: R) -> R:
            raise Conflict(resource.key, resource.revision)

    store = Full()
    assert [flaw.subject for flaw in (await check(store)).flaws] == ["a scratch object"]
    assert (await store.list(IPReservation)).items == ()
