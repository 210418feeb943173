"""The mirror's index is what a look at every block would find, whatever the blocks went through."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from datastore.resources.ipblock import IPBlock
from ipam.block import Block
from ipam.mirror_index import MirrorIndex
from tests.datastore.samples import allocation, ip_block

CIDRS = ("10.65.0.0/30", "10.65.0.4/30", "10.65.0.8/30")


@st.composite
def blocks(draw: st.DrawFn, cidr: str) -> Block:
    """A block of ours or another's, with allocations of ours and others'."""
    owners = draw(st.lists(st.sampled_from(("", "me", "other")), max_size=4))
    found = {
        str(ordinal): msgspec.structs.replace(allocation(node, draw(st.integers(0, 3))), on_link=draw(st.booleans()))
        for ordinal, node in enumerate(owners)
        if node
    }
    record: IPBlock = ip_block(cidr, node=draw(st.sampled_from(("me", "other"))))
    ready = bool(found) or draw(st.booleans())
    machine = draw(st.sampled_from(("m", "old")))
    spec = msgspec.structs.replace(record.spec, allocations=found, fresh=len(owners), ready=ready, machine=machine)
    return Block.read(msgspec.structs.replace(record, spec=spec))


STEPS = st.lists(
    st.one_of(*(st.tuples(st.just(cidr), st.none() | blocks(cidr)) for cidr in CIDRS)), min_size=1, max_size=12
)


@given(steps=STEPS)
def test_it_finds_what_a_look_at_every_block_finds(steps: list[tuple[str, Block | None]]) -> None:
    index = MirrorIndex("me", "m")
    there: dict[str, Block] = {}
    for cidr, after in steps:
        index.put(there.pop(cidr, None), after)
        if after is not None:
            there[cidr] = after
    every = sorted(there.values(), key=lambda block: block.name)
    mine = [block for block in every if block.record.spec.node == "me" and block.record.spec.machine == "m"]
    others = [block for block in every if block not in mine]
    handles = {found.handle for block in every for found in block.record.spec.allocations.values()}
    assert index.networks == {block.network for block in mine if block.record.spec.ready}
    assert index.on_links == {
        block.network for block in mine if any(one.on_link for one in block.record.spec.allocations.values())
    }
    assert index.borrowed == {
        block.address_of(int(ordinal))
        for block in others
        for ordinal, found in block.record.spec.allocations.items()
        if found.node == "me"
    }
    assert list(index.not_full()) == [block.name for block in mine if len(block.record.spec.allocations) < 4]
    for handle in handles:
        assert index.of_handle(handle) == tuple(block.name for block in every if block.of_handle(handle))
    assert index.of_handle("nobody's") == ()


@given(steps=STEPS)
def test_its_version_moves_with_what_is_routed(steps: list[tuple[str, Block | None]]) -> None:
    index = MirrorIndex("me", "m")
    there: dict[str, Block] = {}
    for cidr, after in steps:
        before = index.networks, index.borrowed, index.on_links
        version = index.version
        index.put(there.pop(cidr, None), after)
        if after is not None:
            there[cidr] = after
        assert (index.networks, index.borrowed, index.on_links) == before or index.version != version
