"""How full a pool is said to be."""

from ipaddress import ip_network

import pytest

from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import COUNT_MAX, IPPoolStatus
from ipam.block import Owner, new_block
from ipam.usage import usage
from tests.ipam.world import pool, reservation

NOW = 1_000_000.0


def block(cidr: str, owned: int = 0, name: str = "p") -> IPBlock:
    made = new_block(ip_network(cidr), name, "node-1", "m", NOW)
    for number in range(owned):
        made, _ = (made.made_ready() if not number else made).assign(
            Owner(f"h{number}", "node-1"), f"{number:016x}", NOW, 30
        )
    return made.record


def test_a_pool_without_blocks_is_all_free() -> None:
    assert usage([pool("p", "10.65.0.0/16")], [], []) == {"p": IPPoolStatus(capacity=65536, free=65536)}


def test_what_is_owned_is_used_and_what_is_reserved_is_not_free() -> None:
    blocks = [block("10.65.0.0/26", 3), block("10.65.0.64/26", 2), block("10.66.0.0/26", 5, "q")]
    found = usage([pool("p", "10.65.0.0/24"), pool("q", "10.66.0.0/24")], blocks, [reservation("10.65.0.128/25")])
    assert found["p"] == IPPoolStatus(capacity=256, used=5, free=256 - 128 - 5, blocks=2)
    assert found["q"] == IPPoolStatus(capacity=256, used=5, free=251, blocks=1)


def test_an_address_that_is_owned_and_reserved_is_taken_away_once() -> None:
    (found,) = usage([pool("p", "10.65.0.0/26")], [block("10.65.0.0/26", 4)], [reservation("10.65.0.2/31")]).values()
    assert (found.used, found.free) == (4, 60)


@pytest.mark.parametrize(
    ("cidr", "capacity"),
    [
        pytest.param("fd65::/76", 1 << 52, id="a large one exactly"),
        pytest.param("fd65::/75", COUNT_MAX, id="one larger than JSON's numbers by what they hold"),
    ],
)
def test_an_ipv6_pool_is_counted_as_far_as_json_can(cidr: str, capacity: int) -> None:
    (found,) = usage([pool("p", cidr)], [], []).values()
    assert (found.capacity, found.free) == (capacity, capacity)


def test_a_large_pool_with_few_owners_stays_at_what_json_holds() -> None:
    (found,) = usage([pool("p", "fd65::/48")], [block("fd65::/122", 2)], []).values()
    assert (found.used, found.free, found.blocks) == (2, COUNT_MAX, 1)


def test_a_block_counts_where_it_lies_whatever_pool_it_was_made_for() -> None:
    found = usage([pool("new", "10.65.0.0/26")], [block("10.65.0.0/26", 3, "old")], [])
    assert (found["new"].used, found["new"].blocks) == (3, 1)


def test_of_a_block_larger_than_its_pool_only_what_lies_inside_is_used() -> None:
    blocks = [block("10.65.0.0/24", 40), block("10.65.1.0/26", 7)]
    found = usage([pool("p", "10.65.0.32/27", 27), pool("q", "10.65.1.0/26")], blocks, [])
    assert (found["p"].used, found["p"].free, found["p"].blocks) == (8, 24, 1)
    assert (found["q"].used, found["q"].blocks) == (7, 1)


def test_a_pool_that_overlaps_another_says_which_and_one_that_makes_no_sense_has_no_status() -> None:
    pools = [pool("b", "10.65.0.0/24"), pool("a", "10.65.0.0/16"), pool("wrong", "10.66.0.0/16", nodes="(")]
    found = usage(pools, [], [])
    assert {name: status.conflicts_with for name, status in found.items()} == {"a": "", "b": "a"}
