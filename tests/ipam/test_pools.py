"""Which pools may serve, and where a node looks first."""

from ipaddress import ip_address, ip_network
from itertools import islice

import msgspec
import pytest

from datastore.resources.ippool import IPPool
from datastore.resources.value import Metadata, UnknownFields
from ipam.block import Among, Network
from ipam.errors import NoPool
from ipam.pools import TUNNEL, Asker, Catalogue, Pool, candidates, cells, conflicts
from ipam.reserved import Reserved
from tests.ipam.world import pool

POOLS = [
    pool("blue", "10.66.0.0/16"),
    pool("amber", "10.65.0.0/16", block_size=28),
    pool("off", "10.67.0.0/16", disabled=True),
    pool("six", "fd65::/48"),
    pool("bridge", "10.1.0.0/16", mode="Manual"),
]


@pytest.mark.parametrize(
    ("family", "asked", "expected"),
    [
        pytest.param(4, (), ["amber", "blue"], id="every enabled pool of the family, by name"),
        pytest.param(6, (), ["six"], id="IPv6"),
        pytest.param(4, ("blue", "amber"), ["blue", "amber"], id="in the order asked for"),
        pytest.param(4, ("10.66.0.0/16",), ["blue"], id="by CIDR"),
        pytest.param(4, ("bridge",), ["bridge"], id="one that serves only who asks for it"),
        pytest.param(6, ("fd65:0:0::/48",), ["six"], id="by CIDR written otherwise"),
        pytest.param(4, ("blue", "off", "six", "none"), ["blue"], id="what can't serve is passed over"),
    ],
)
def test_the_pools_that_may_serve(family: int, asked: tuple[str, ...], expected: list[str]) -> None:
    assert [found.name for found in Catalogue(POOLS).eligible(family, asked)] == expected


@pytest.mark.parametrize(
    ("family", "asked"),
    [
        pytest.param(4, ("off",), id="disabled"),
        pytest.param(4, ("six",), id="of the other family"),
        pytest.param(6, ("x",), id="unknown"),
    ],
)
def test_a_family_without_a_pool_is_named(family: int, asked: tuple[str, ...]) -> None:
    with pytest.raises(NoPool, match=f"IPv{family}.*{asked[0]}") as refused:
        Catalogue(POOLS).eligible(family, asked)
    assert refused.value.family == family


RACKS = [
    pool("a", "10.65.0.0/16", nodes="rack == 'a'"),
    pool("b", "10.66.0.0/16", nodes="rack == 'b'"),
    pool("bank", "10.67.0.0/16", namespaces="team in {'bank', 'audit'}"),
    pool("hand", "10.68.0.0/16", mode="Manual"),
    pool("lb", "10.69.0.0/16", uses=("LoadBalancer",)),
    pool("pods", "10.70.0.0/16", uses=("Workload",)),
    pool("ends", "10.71.0.0/16", uses=("Tunnel",), vxlan="Always"),
    pool("six", "fd65::/48", vxlan="CrossSubnet"),
]
IN_A, IN_BANK = {"rack": "a"}, {"team": "bank"}


@pytest.mark.parametrize(
    ("asker", "expected"),
    [
        pytest.param(Asker(), ["pods"], id="without labels: what selects everything"),
        pytest.param(Asker(node_labels=IN_A), ["a", "pods"], id="by the node"),
        pytest.param(Asker(namespace_labels=IN_BANK), ["bank", "pods"], id="by the namespace"),
        pytest.param(Asker(node_labels=IN_A, namespace_labels=IN_BANK), ["a", "bank", "pods"], id="by either"),
        pytest.param(Asker(node_labels=IN_BANK, namespace_labels=IN_A), ["pods"], id="each by its own labels"),
        pytest.param(Asker(TUNNEL, IN_A), ["a", "bank", "ends"], id="tunnels are of no namespace"),
    ],
)
def test_who_names_no_pool_is_served_by_those_that_select_him(asker: Asker, expected: list[str]) -> None:
    assert [found.name for found in Catalogue(RACKS).eligible(4, asker=asker)] == expected


@pytest.mark.parametrize(
    ("asked", "among", "expected"),
    [
        pytest.param(("b", "bank", "hand"), None, ["b", "bank", "hand"], id="who names pools gets them"),
        pytest.param(("lb", "b"), None, ["b"], id="but none for another use"),
        pytest.param((), Among.only(ip_address("10.66.0.1")), ["a", "b", "bank", "hand", "pods"], id="an address too"),
    ],
)
def test_selectors_and_mode_are_for_those_who_name_nothing(
    asked: tuple[str, ...], among: Among | None, expected: list[str]
) -> None:
    assert [found.name for found in Catalogue(RACKS).eligible(4, asked, among)] == expected


def test_a_node_has_tunnel_ends_in_pools_with_an_encapsulation_that_select_it() -> None:
    more = [
        *RACKS,
        pool("x", "10.72.0.0/16", vxlan="Always", nodes="rack == 'a'"),
        pool("y", "10.73.0.0/16", vxlan="Always", uses=("Workload",)),
        pool("z", "10.74.0.0/16", vxlan="Always", disabled=True),
        pool("hand-made", "10.75.0.0/16", vxlan="Always", mode="Manual"),
    ]
    assert Catalogue(more).tunnelled(4, IN_A) == ("ends", "x")
    assert Catalogue(more).tunnelled(4, {}) == ("ends",)
    assert Catalogue(more).tunnelled(6, {}) == ("six",)


def made_at(found: IPPool, when: str) -> IPPool:
    return msgspec.structs.replace(
        found, metadata=Metadata(name=found.name, unknown=UnknownFields({"creationTimestamp": when}))
    )


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        pytest.param([pool("p", "10.65.0.0/16"), pool("q", "10.66.0.0/16")], {}, id="none overlaps"),
        pytest.param([pool("q", "10.65.0.0/16"), pool("p", "10.65.4.0/24")], {"q": "p"}, id="the later by name"),
        pytest.param(
            [
                made_at(pool("p", "10.65.0.0/16"), "2026-01-02T03:04:05Z"),
                made_at(pool("q", "10.65.0.0/24"), "2025-01-01T00:00:00Z"),
            ],
            {"p": "q"},
            id="the later by its time, where that is known",
        ),
        pytest.param(
            [pool("p", "10.65.0.0/24"), pool("q", "10.65.0.0/16"), pool("r", "10.65.1.0/24")],
            {"q": "p"},
            id="one that overlaps only what isn't used is used",
        ),
        pytest.param([pool("p", "fd65::/48"), pool("q", "10.65.0.0/16")], {}, id="families have nothing in common"),
        pytest.param(
            [pool("p", "10.65.0.0/16", disabled=True), pool("q", "10.65.0.0/24")],
            {"q": "p"},
            id="a disabled one keeps its place: it may have blocks",
        ),
    ],
)
def test_of_pools_that_overlap_the_later_one_is_not_used(pools: list[IPPool], expected: dict[str, str]) -> None:
    assert conflicts(pools) == conflicts(reversed(pools)) == expected
    assert set(Catalogue(pools).unused) == set(expected)
    for name in expected:
        with pytest.raises(NoPool, match=f"{name} overlaps IPPool {expected[name]}"):
            Catalogue(pools).eligible(4, (name,))


def test_a_pool_that_makes_no_sense_is_passed_over_and_said_so() -> None:
    wrong = [pool("bad", "10.64.0.0/16", nodes="rack = 'a'"), pool("worse", "10.65.0.5/16"), pool("ok", "10.65.0.0/16")]
    found = Catalogue(wrong)
    assert [one.name for one in found.eligible(4)] == ["ok"]
    assert "nodeSelector" in found.unused["bad"]
    assert "host bits" in found.unused["worse"]
    with pytest.raises(NoPool, match=r"bad is wrong: spec\.nodeSelector.*at character 6"):
        found.eligible(4, ("bad",))


def test_cells_and_blocks_that_are_wholly_reserved_are_not_looked_at() -> None:
    found, reserved = Pool("p", ip_network("10.65.0.0/16"), 26), Reserved(["10.65.0.0/17", "10.65.240.0/21"])
    walked = list(cells(found, "node-1", None, reserved))
    assert sorted(walked) == [ip_network(f"10.65.{third}.0/20") for third in range(128, 256, 16)]
    last = ip_network("10.65.240.0/20")
    assert set(candidates(found, last, "node-1", [], None, reserved)) == set(
        ip_network("10.65.248.0/21").subnets(new_prefix=26)
    )
    assert list(cells(Pool("p", ip_network("10.65.0.0/22"), 26), "node-1", None, reserved)) == []


def test_who_asks_for_one_address_finds_its_block_though_it_is_reserved_and_no_other() -> None:
    found, reserved = Pool("p", ip_network("10.65.0.0/16"), 26), Reserved(["10.65.0.0/16"])
    among = Among.only(ip_address("10.65.7.200"))
    assert list(cells(found, "node-1", among, reserved)) == [ip_network("10.65.0.0/20")]
    block = ip_network("10.65.7.192/26")
    assert list(candidates(found, ip_network("10.65.0.0/20"), "node-1", [], among, reserved)) == [block]
    assert list(candidates(found, ip_network("10.65.0.0/20"), "node-1", [block], among, reserved)) == []


def test_the_default_block_sizes() -> None:
    assert [found.block_prefix for family in (4, 6) for found in Catalogue(POOLS).eligible(family)] == [28, 26, 122]


@pytest.mark.parametrize(
    ("cidr", "count"),
    [
        pytest.param("10.65.0.0/16", 16, id="a /16 has sixteen /20"),
        pytest.param("10.65.4.0/22", 1, id="a pool smaller than a cell lies in one"),
    ],
)
def test_every_cell_is_walked_once(cidr: str, count: int) -> None:
    walked = list(cells(Pool("p", ip_network(cidr), 26), "node-1"))
    assert len(walked) == len(set(walked)) == count
    assert all(cell.overlaps(ip_network(cidr)) for cell in walked)


@pytest.mark.parametrize(
    ("cidr", "prefix", "count"),
    [
        pytest.param("10.65.0.0/16", 26, 64, id="64 blocks of a /20"),
        pytest.param("10.65.4.0/22", 26, 16, id="only those inside a small pool"),
        pytest.param("10.65.0.0/16", 20, 1, id="a block as large as a cell"),
        pytest.param("fd65::/48", 122, 64, id="IPv6"),
        pytest.param("10.65.0.0/26", 26, 1, id="a pool of one block"),
    ],
)
def test_every_candidate_lies_in_pool_and_cell_and_comes_once(cidr: str, prefix: int, count: int) -> None:
    found = Pool("p", ip_network(cidr), prefix)
    cell = next(cells(found, "node-1"))
    walked = list(candidates(found, cell, "node-1", []))
    assert len(walked) == len(set(walked)) == count
    assert all(block.overlaps(cell) and block.overlaps(found.network) and block.prefixlen == prefix for block in walked)


def test_candidates_overlap_nothing_that_is_taken() -> None:
    found = Pool("p", ip_network("10.65.0.0/20"), 28)
    taken: list[Network] = [ip_network("10.65.0.0/26"), ip_network("10.65.8.16/28"), ip_network("10.65.12.0/22")]
    walked = list(candidates(found, ip_network("10.65.0.0/20"), "node-1", taken))
    assert len(walked) == 256 - 4 - 1 - 64
    assert not any(block.overlaps(other) for block in walked for other in taken)


def test_nodes_begin_in_different_places_and_each_always_in_the_same() -> None:
    found = Pool("p", ip_network("10.0.0.0/8"), 26)
    firsts = [next(cells(found, f"node-{number}")) for number in range(50)]
    assert firsts == [next(cells(found, f"node-{number}")) for number in range(50)]
    assert len(set(firsts)) > 40


def test_a_pool_too_large_to_walk_is_walked_lazily() -> None:
    assert len(list(islice(cells(Pool("p", ip_network("fd65::/48"), 122), "node-1"), 5))) == 5


def test_a_pool_that_serves_only_who_asks_serves_who_asks_for_its_addresses() -> None:
    among = Among.only(ip_address("10.1.0.9"))
    assert "bridge" in [found.name for found in Catalogue(POOLS).eligible(4, (), among)]
