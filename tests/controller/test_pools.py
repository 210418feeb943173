"""Each pool's status says whether addresses are given from it, why not, and what to do about it."""

import msgspec
import pytest

from controller.pools import EFFECTIVE, READY, condition, tell_usage
from controller.view import View
from datastore.memory import MemoryStore
from datastore.resources.condition import Condition
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata


def pool(name: str, cidr: str, **spec: bool) -> IPPool:
    return IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, **spec))  # type: ignore[arg-type]


async def told(store: MemoryStore, name: str = "p", kind: str = READY) -> Condition:
    view = View()
    for watched in (IPPool, IPReservation, Node):
        view.told(watched)[0]((await store.list(watched)).items)
    await tell_usage(store, view)
    found = condition(await store.get(IPPool, name), kind)
    assert found is not None
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
    assert [one.type for one in (await store.get(IPPool, "p")).status.conditions] == ["Mine", READY, EFFECTIVE]


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


@pytest.mark.parametrize(
    ("spec", "status", "reason", "word"),
    [
        pytest.param({}, "True", "AsSpecified", "", id="all that is asked for is done"),
        pytest.param({"vxlan_mode": "Always"}, "False", "UnsupportedField", "vxlanMode", id="an encapsulation"),
        pytest.param({"disable_bgp_export": True}, "False", "UnsupportedField", "disableBGPExport", id="routes"),
        pytest.param({"allowed_uses": ("LoadBalancer",)}, "False", "UnsupportedField", "LoadBalancer", id="a use"),
        pytest.param({"node_selector": "rack == 'b'"}, "False", "SelectsNoNodes", "rack == 'b'", id="no node"),
        pytest.param({"node_selector": "rack == 'a'"}, "True", "AsSpecified", "", id="a node"),
    ],
)
async def test_a_pool_says_what_of_it_has_no_effect(
    spec: dict[str, object], status: str, reason: str, word: str
) -> None:
    store = MemoryStore()
    await store.create(Node(metadata=Metadata(name="n1", labels={"rack": "a"}), spec=NodeSpec(machine="m")))
    await store.create(IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr="10.65.0.0/16", **spec)))  # type: ignore[arg-type]
    found = await told(store, kind=EFFECTIVE)
    assert (found.status, found.reason) == (status, reason)
    assert word in found.message


async def test_before_there_is_any_node_a_pool_isnt_blamed() -> None:
    store = MemoryStore()
    spec = IPPoolSpec(cidr="10.65.0.0/16", node_selector="has(rack)")
    await store.create(IPPool(metadata=Metadata(name="p"), spec=spec))
    assert (await told(store, kind=EFFECTIVE)).status == "True"
