"""What counts as left over: a table of inventories, each a healthy node with one thing changed."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from agent.endpoints import endpoint_key
from agent.leftovers import Inventory, Leftover, Owned, leftovers
from cni.delegate import Delegated
from cni.records import HeldAddress, Record
from kernel.ipset import ActualSet
from kernel.links import Route, host_interface
from kernel.sets import Member, SetName

LINK = host_interface("net", "c1", "eth0")
STRANGE = host_interface("net", "c9", "eth0")
ADDRESS = ip_address("10.65.0.2")
RECORD = Record(
    network="net",
    container_id="c1",
    interface="eth0",
    host_interface=LINK,
    namespace="shop",
    pod="web",
    held=(HeldAddress("b", 2, "0123456789abcdef", str(ADDRESS)),),
    complete=True,
)
HANDLE = RECORD.attachment.handle
DYING = msgspec.structs.replace(RECORD, complete=False, held=())
ROUTE = Route(ip_network("10.65.0.2/32"), LINK)


def a_set(kind: str, *members: str) -> ActualSet:
    return ActualSet(kind, "inet", 65536, frozenset(map(Member, members)))


SETS = {
    "tt4-local": a_set("hash:net,iface", f"{ADDRESS},{LINK}"),
    "tt4-pods": a_set("hash:ip", str(ADDRESS)),
    "tt4-t-1234": a_set("hash:ip", str(ADDRESS)),
    "tt4-p-abcd": a_set("hash:ip", str(ADDRESS), "10.65.9.9"),
    "tt4-n-abcd": a_set("hash:ip,port", f"{ADDRESS},tcp:80"),
    "tt4-p-net": a_set("hash:net", "10.65.0.0/24", "0.0.0.0/1"),
    "tt4-nodes": a_set("hash:ip", "172.30.0.2"),
}
LENT = Record(
    network="bridged",
    container_id="c2",
    interface="eth0",
    host_interface="",
    held=(HeldAddress("b", 3, "0123456789abcdee", "10.65.0.3"),),
    on_link=True,
    complete=True,
)
ABOVE_HOST_LOCAL = Record(
    network="above",
    container_id="c3",
    interface="eth0",
    host_interface=host_interface("above", "c3", "eth0"),
    namespace="shop",
    pod="other",
    held=(HeldAddress("", 0, "", "172.19.0.2"),),
    delegated=Delegated("host-local", "{}", "/opt/cni/bin", "", "/run/netns/c3"),
    complete=True,
)
HEALTHY = Inventory(
    records=(RECORD,),
    links=frozenset({"lo", "eth0", "tortoise", LINK}),
    routes=frozenset({ROUTE, Route(ip_network("10.65.0.0/26")), Route(ip_network("169.254.1.1/32"), "lo")}),
    sets={SetName(name): found for name, found in SETS.items()},
    networks=(ip_network("10.65.0.0/26"),),
    owned=(
        Owned(ADDRESS, HANDLE, "0123456789abcdef"),
        Owned(ip_address("10.65.0.9"), "manual/printer", "fedcba9876543210"),
    ),
    lent=frozenset({ip_address("10.65.0.7")}),
    endpoints=frozenset({endpoint_key(RECORD)}),
)


def changed(**changes: object) -> Inventory:
    return replace(HEALTHY, **changes)  # type: ignore[arg-type]


def with_set(name: str, kind: str, *members: str) -> Inventory:
    return changed(sets={**HEALTHY.sets, SetName(name): a_set(kind, *members)})


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(Inventory(), id="a node without pods"),
        pytest.param(HEALTHY, id="a pod, and things of others that look alike"),
        pytest.param(changed(records=(DYING,), held=frozenset({HANDLE}), sets={}), id="an ADD under way"),
        pytest.param(
            changed(records=(), journal=(RECORD,), held=frozenset({HANDLE}), links=frozenset()),
            id="a DEL under way, whatever is left of it",
        ),
        pytest.param(
            changed(owned=(Owned(ADDRESS, HANDLE, "f" * 16),), held=frozenset({HANDLE})),
            id="an address that is being adopted",
        ),
        pytest.param(with_set("tt4-p-x", "hash:ip", "10.65.0.7"), id="a pod of another node with a borrowed address"),
    ],
)
def test_what_is_needed_or_under_way_is_not_left_over(found: Inventory) -> None:
    assert leftovers(found) == []


@pytest.mark.parametrize(
    ("found", "kind", "name"),
    [
        pytest.param(changed(links=HEALTHY.links | {STRANGE}), "link", STRANGE, id="a link of no attachment"),
        pytest.param(
            changed(routes=HEALTHY.routes | {Route(ip_network("10.65.0.3/32"), STRANGE)}),
            "route",
            f"10.65.0.3/32 dev {STRANGE}",
            id="a route to a pod that isn't there",
        ),
        pytest.param(
            changed(routes=HEALTHY.routes | {Route(ip_network("10.65.0.3/32"), LINK)}),
            "route",
            f"10.65.0.3/32 dev {LINK}",
            id="a route to an address that the pod hasn't",
        ),
        *(
            pytest.param(with_set(name, kind, member), "member", f"{member} of {name}", id=f"a member of {name}")
            for name, kind, member in (
                ("tt4-local", "hash:net,iface", f"10.65.0.3,{LINK}"),
                ("tt4-pods", "hash:ip", "10.65.0.3"),
                ("tt4-pods", "hash:ip", "192.0.2.1"),
                ("tt4-f-1", "hash:net,iface", f"10.65.0.3,{STRANGE}"),
                ("tt4-t-1", "hash:ip", "10.65.0.3"),
                ("tt4-fb-1", "hash:net,iface", f"10.65.0.3,{LINK}"),
                ("tt4-tb-1", "hash:ip", "10.65.0.3"),
                ("tt4-p-1", "hash:ip", "10.65.0.3"),
                ("tt4-n-1", "hash:ip,port", "10.65.0.3,tcp:80"),
            )
        ),
        pytest.param(changed(records=(DYING,), sets={}), "file", f"record of {HANDLE}", id="an ADD that died"),
        pytest.param(
            changed(links=frozenset({"lo"})), "file", f"record of {HANDLE}", id="a pod that is gone without a DEL"
        ),
        pytest.param(
            changed(records=(), journal=(RECORD,)), "file", f"journal of {HANDLE}", id="a removal that is owed"
        ),
        pytest.param(
            changed(files=(Leftover("file", "/tombstones/x", "why"),)), "file", "/tombstones/x", id="a file as such"
        ),
        pytest.param(
            changed(owned=(*HEALTHY.owned, Owned(ip_address("10.65.0.3"), "net:c9:eth0", "a" * 16))),
            "address",
            "10.65.0.3",
            id="an address of an attachment that isn't here",
        ),
        pytest.param(
            changed(owned=(*HEALTHY.owned, Owned(ip_address("10.65.0.3"), HANDLE, "a" * 16))),
            "address",
            "10.65.0.3",
            id="a second address of an attachment",
        ),
        pytest.param(changed(owned=()), "address", "10.65.0.2", id="an address that the datastore doesn't know"),
        pytest.param(
            changed(endpoints=HEALTHY.endpoints | {"shop/old"}), "endpoint", "shop/old", id="an endpoint of no pod"
        ),
    ],
)
def test_each_thing_that_no_attachment_needs_is_listed_and_nothing_else(found: Inventory, kind: str, name: str) -> None:
    (left,) = leftovers(found)
    assert (left.kind, left.name) == (kind, name)


def test_addresses_of_and_for_other_plugins_are_not_left_over() -> None:
    found = replace(
        HEALTHY,
        records=(RECORD, LENT, ABOVE_HOST_LOCAL),
        links=HEALTHY.links | {ABOVE_HOST_LOCAL.host_interface},
        owned=(*HEALTHY.owned, Owned(ip_address("10.65.0.3"), LENT.attachment.handle, "0123456789abcdee")),
        endpoints=HEALTHY.endpoints | {endpoint_key(ABOVE_HOST_LOCAL)},
    )
    assert leftovers(found) == []
    without = replace(found, owned=HEALTHY.owned, links=HEALTHY.links)
    assert [(one.kind, one.name) for one in leftovers(without)] == [
        ("address", "10.65.0.3"),
        ("file", f"record of {ABOVE_HOST_LOCAL.attachment.handle}"),
    ]
