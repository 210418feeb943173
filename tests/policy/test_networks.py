"""Cutting excepted parts out of ipBlocks."""

from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.tables import Family
from policy.model import Cidr
from policy.networks import without_excepts


def _block(network: str, *excepts: str) -> Cidr:
    return Cidr(ip_network(network), tuple(map(ip_network, excepts)))


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        pytest.param([_block("10.0.0.0/8")], ["10.0.0.0/8"], id="a block alone"),
        pytest.param([_block("10.0.0.0/8", "10.128.0.0/9")], ["10.0.0.0/9"], id="its half"),
        pytest.param(
            [_block("10.0.0.0/8", "10.64.0.0/10")], ["10.0.0.0/10", "10.128.0.0/9"], id="a part in the middle"
        ),
        pytest.param([_block("10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9")], [], id="nothing is left"),
        pytest.param([_block("10.0.0.0/8", "0.0.0.0/0")], [], id="more than all is excepted"),
        pytest.param([_block("10.0.0.0/8", "11.0.0.0/8", "9.0.0.0/8")], ["10.0.0.0/8"], id="excepted elsewhere"),
        pytest.param([_block("10.0.0.0/8", "fd00::/8")], ["10.0.0.0/8"], id="excepted in the other family"),
        pytest.param(
            [_block("10.0.0.0/8", "10.128.0.0/9", "10.128.0.0/16")], ["10.0.0.0/9"], id="excepts inside one another"
        ),
        pytest.param(
            [_block("10.0.0.0/8", "10.1.0.0/16"), _block("10.1.0.0/16")],
            ["10.0.0.0/8"],
            id="another block gives back what is excepted",
        ),
        pytest.param([_block("0.0.0.0/1"), _block("128.0.0.0/1")], ["0.0.0.0/0"], id="two halves are everything"),
        pytest.param([_block("fd00::/8")], [], id="the other family's blocks don't count"),
        pytest.param([], [], id="no blocks"),
        pytest.param(
            [_block("255.255.255.254/31", "255.255.255.255/32")], ["255.255.255.254/32"], id="the last address"
        ),
    ],
)
def test_what_is_left(blocks: list[Cidr], expected: list[str]) -> None:
    assert [str(network) for network in without_excepts(blocks, Family.IPV4)] == expected


_NETWORKS = st.integers(24, 32).flatmap(
    lambda length: st.integers(0, 255).map(lambda last: ip_network(f"10.0.0.{last}/{length}", strict=False))
)


@given(st.lists(st.builds(Cidr, _NETWORKS, st.lists(_NETWORKS, max_size=4).map(tuple)), max_size=3))
def test_exactly_the_same_addresses_are_held(blocks: list[Cidr]) -> None:
    left = without_excepts(blocks, Family.IPV4)
    for last in range(256):
        address = IPv4Address(f"10.0.0.{last}")
        assert any(address in network for network in left) is any(block.contains(address) for block in blocks)


def test_thousands_of_excepts_are_no_trouble() -> None:
    excepts = [f"10.{second}.{third}.7/32" for second in range(40) for third in range(256)]
    assert len(without_excepts([_block("10.0.0.0/8", *excepts)], Family.IPV4)) > len(excepts)
