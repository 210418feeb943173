"""A block's name, what makes it consistent, and what it is found by."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import Invalid
from datastore.resources.ipblock import HISTORY, Past, block_cidr, block_name
from datastore.resources.value import Metadata
from tests.datastore.samples import Document, allocation, ip_block

CHANGES = [
    pytest.param({"cell": "10.65.16.0/20"}, "spec.cell", id="another cell"),
    pytest.param({"cidr": "10.65.0.0/19"}, "spec.cidr", id="larger than a cell"),
    pytest.param({"node": "a/b"}, "spec.node", id="no node's name"),
    pytest.param({"fresh": 65}, "spec.fresh", id="fresh beyond the block"),
    pytest.param({"fresh": -1}, "spec.fresh", id="fresh below it"),
    pytest.param({"ready": False}, "spec.allocations", id="allocations in an unready block"),
    pytest.param({"claimed_at": float("nan")}, "spec.claimedAt", id="no time"),
    pytest.param({"released": ((0, 1.0),)}, "spec.released[0]", id="allocated and released"),
    pytest.param({"released": ((1, 1.0), (1, 2.0))}, "spec.released[1]", id="released twice"),
    pytest.param({"released": ((3, 1.0),)}, "spec.released[0]", id="released but never used"),
    pytest.param({"released": ((1, -1.0),)}, "spec.released[0]", id="released before 1970"),
    pytest.param({"allocations": {"64": allocation()}}, "spec.allocations", id="an ordinal beyond the block"),
    pytest.param({"allocations": {"3": allocation()}}, "spec.allocations", id="allocated but never used"),
    pytest.param({"allocations": {"00": allocation()}}, "spec.allocations", id="an ordinal with a zero before it"),
    pytest.param({"allocations": {"x": allocation()}}, "spec.allocations", id="an ordinal that is no number"),
    pytest.param({"history": (Past(ordinal=0),) * (HISTORY + 1)}, "spec.history", id="a longer memory"),
    pytest.param({"history": (Past(ordinal=64),)}, "spec.history[0].ordinal", id="the past of another block"),
    pytest.param(
        {"history": (Past(ordinal=0, since=2, until=1),)}, "spec.history[0].until", id="an end before the beginning"
    ),
    pytest.param(
        {"history": (Past(ordinal=0, until=float("inf")),)}, "spec.history[0].until", id="an end that is no time"
    ),
]


@pytest.mark.parametrize(("change", "path"), CHANGES)
def test_an_inconsistent_block_is_refused_with_the_path(change: Document, path: str) -> None:
    block = ip_block(borrowers=("node-1",))
    block = msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, fresh=3))
    block.check()
    with pytest.raises(Invalid) as caught:
        msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, **change)).check()
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"id": "12"}, "id", id="a short id"),
        pytest.param({"id": "g" * 16}, "id", id="an id that isn't hex"),
        pytest.param({"id": "A" * 16}, "id", id="an id in capitals"),
        pytest.param({"handle": ""}, "handle", id="no handle"),
        pytest.param({"node": ""}, "node", id="no node"),
        pytest.param({"pod": "a b"}, "pod", id="no pod's name"),
        pytest.param({"namespace": "a.b"}, "namespace", id="no namespace"),
        pytest.param({"since": float("inf")}, "since", id="no time"),
    ],
)
def test_a_bad_allocation_is_refused_with_its_ordinal(change: Document, field: str) -> None:
    block = ip_block(borrowers=("node-1", "node-1"))
    bad = {**block.spec.allocations, "1": msgspec.structs.replace(allocation(), **change)}
    with pytest.raises(Invalid) as caught:
        msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, allocations=bad)).check()
    assert caught.value.path == f"spec.allocations[1].{field}"


def test_a_block_with_another_blocks_name_is_refused() -> None:
    block = ip_block()
    with pytest.raises(Invalid, match="10-65-0-64-26"):
        msgspec.structs.replace(block, metadata=Metadata(name="10-65-0-0-26")).check()


def test_a_block_is_found_by_its_owner_its_borrowers_its_cell_and_its_pool() -> None:
    assert ip_block(node="a", borrowers=("a", "b", "c", "b")).indexed() == {
        "node": {"a", "b", "c"},
        "cell": {"10.65.0.0/20"},
        "pool": {"default-ipv4"},
    }


@pytest.mark.parametrize(
    ("cidr", "name"),
    [
        pytest.param("10.65.0.64/26", "10-65-0-64-26", id="IPv4"),
        pytest.param("fd00:65::40/122", "fd00-65-0-0-0-0-0-40-122", id="IPv6"),
        pytest.param("::/116", "0-0-0-0-0-0-0-0-116", id="IPv6, all zeros"),
        pytest.param("::ffff:10.1.2.0/120", "0-0-0-0-0-ffff-a01-200-120", id="IPv4-mapped"),
    ],
)
def test_a_blocks_name_is_its_cidr(cidr: str, name: str) -> None:
    assert block_name(ip_network(cidr)) == name
    assert block_cidr(name) == ip_network(cidr)


@given(st.integers(0, 2**128 - 1), st.integers(0, 128))
def test_block_cidr_undoes_block_name(number: int, length: int) -> None:
    wide = IPv6Network((number >> (128 - length) << (128 - length), length))
    assert block_cidr(block_name(wide)) == wide
    narrow = IPv4Network((number >> 96 >> (32 - length // 4) << (32 - length // 4), length // 4))
    assert block_cidr(block_name(narrow)) == narrow


@pytest.mark.parametrize(
    "name", ["", "x", "10-65-0-64", "10-65-0-65-26", "fd00--122", "FD00-0-0-0-0-0-0-0-122", "010-0-0-0-8"]
)
def test_what_is_no_blocks_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        block_cidr(name)
