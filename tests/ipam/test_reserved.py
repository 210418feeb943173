"""What reservations keep free, told by bisection just as by looking at each."""

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.value import Metadata
from ipam.block import Network
from ipam.reserved import NOTHING, Reserved

BLOCK = ip_network("10.65.0.64/28")

CIDRS = st.one_of(
    st.integers(0, 255).map(lambda last: f"10.65.0.{last}"),
    st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
        lambda one: str(ip_network(f"10.65.0.{one[0]}/{one[1]}", strict=False))
    ),
)


@given(st.lists(CIDRS, max_size=12), st.integers(24, 30))
def test_ranges_agree_with_looking_at_each_reservation(cidrs: list[str], length: int) -> None:
    reserved, networks = Reserved(cidrs), [ip_network(text) for text in cidrs]
    for block in ip_network("10.65.0.0/24").subnets(new_prefix=length):
        each = {n for n, address in enumerate(block) if any(address in network for network in networks)}
        assert reserved.ordinals(block) == each
        assert reserved.count(block) == len(each)
        assert reserved.covers(block) is (len(each) == block.num_addresses)
        start = int(block.network_address)
        assert {n for n in range(block.num_addresses) if reserved.has(IPv4Address(start + n))} == each
    assert bool(reserved) is bool(cidrs)


@given(st.lists(CIDRS, max_size=6).flatmap(lambda cidrs: st.tuples(st.just(cidrs), st.permutations(cidrs))))
def test_the_order_of_reservations_makes_no_difference(both: tuple[list[str], list[str]]) -> None:
    first, second = map(Reserved, both)
    assert (first, hash(first)) == (second, hash(second))


@pytest.mark.parametrize(
    ("cidr", "network", "count"),
    [
        pytest.param("fd65::/64", "fd65::40/122", 64, id="a block within"),
        pytest.param("fd65::48/125", "fd65::40/122", 8, id="some of a block"),
        pytest.param("10.65.0.0/16", "fd65::40/122", 0, id="of the other family"),
        pytest.param("fd65::/64", "fd65::/48", 1 << 64, id="more than anybody can count one by one"),
    ],
)
def test_families_are_kept_apart(cidr: str, network: str, count: int) -> None:
    found: Network = ip_network(network)
    assert Reserved([cidr]).count(found) == count


def test_reservations_are_taken_together() -> None:
    each = [
        IPReservation(metadata=Metadata(name=f"r{n}"), spec=IPReservationSpec(reserved_cidrs=(cidr,)))
        for n, cidr in enumerate(["10.65.0.64/29", "10.65.0.72", "fd65::1"])
    ]
    assert Reserved.of(each).ordinals(BLOCK) == frozenset(range(9))
    assert Reserved.of(each).has(ip_address("fd65::1"))


def test_without_reservations_nothing_is_reserved() -> None:
    assert not NOTHING
    assert NOTHING.ordinals(BLOCK) == frozenset()
