"""Which pools may serve, and where a node looks first."""

from ipaddress import ip_address, ip_network
from itertools import islice

import pytest

from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from ipam.block import Among, Network
from ipam.errors import NoPool
from ipam.pools import Catalogue, Pool, candidates, cells


def pool(
    name: str, cidr: str, *, disabled: bool = False, block_size: int | None = None, mode: str = "Automatic"
) -> IPPool:
    spec = IPPoolSpec(cidr=cidr, disabled=disabled, block_size=block_size, assignment_mode=mode)
    return IPPool(metadata=Metadata(name=name), spec=spec)


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
