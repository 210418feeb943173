"""Each pool's status says whether addresses are given from it, why not, and what to do about it."""

import msgspec
import pytest

from controller.pools import READY, tell_usage
from controller.view import View
from datastore.memory import MemoryStore
from datastore.resources.condition import Condition
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.value import Metadata


def pool(name: str, cidr: str, **spec: bool) -> IPPool:
    return IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, **spec))  # type: ignore[arg-type]


async def told(store: MemoryStore, name: str = "p") -> Condition:
    view = View()
    for kind in (IPPool, IPReservation):
        view.told(kind)[0]((await store.list(kind)).items)
    await tell_usage(store, view)
    (found,) = [one for one in (await store.get(IPPool, name)).status.conditions if one.type == READY]
    return found


async def test_a_pool_with_addresses_left_is_ready() -> None:
    store = MemoryStore()
    await store.create(pool("p", "10.65.0.0/16"))
    found = await told(store)
    assert (found.status, found.reason) == ("True", "AddressesLeft")


async def test_a_disabled_pool_is_not_and_since_when_is_told() -> None:
    store = MemoryStore()
    made = await store.create(pool("p", "10.65.0.0/16", disabled=True))
    found = await told(store)
    assert (found.status, found.reason) == ("False", "Disabled")
    made = await store.get(IPPool, "p")
    old = msgspec.structs.replace(found, last_transition_time="2026-01-01T00:00:00Z")
    status = msgspec.structs.replace(made.status, conditions=(Condition(type="Mine", status="True"), old))
    await store.update(msgspec.structs.replace(made, status=status))
    assert await told(store) == old
    assert [one.type for one in (await store.get(IPPool, "p")).status.conditions] == ["Mine", READY]


async def test_one_of_two_pools_that_overlap_says_which_has_the_addresses() -> None:
    store = MemoryStore()
    await store.create(pool("a", "10.65.0.0/16"))
    await store.create(pool("b", "10.65.0.0/24"))
    found = [await told(store, name) for name in ("a", "b")]
    (refused,) = [one for one in found if one.status == "False"]
    assert refused.reason == "Overlaps"
    assert "delete one of the two" in refused.message


@pytest.mark.parametrize("reserved", ["10.65.0.0/26"])
async def test_a_pool_without_addresses_left_says_what_to_do(reserved: str) -> None:
    store = MemoryStore()
    await store.create(pool("p", "10.65.0.0/26"))
    spec = IPReservationSpec(reserved_cidrs=(reserved,))
    await store.create(IPReservation(metadata=Metadata(name="r"), spec=spec))
    found = await told(store)
    assert (found.status, found.reason) == ("False", "Exhausted")
    assert "make another pool" in found.message
