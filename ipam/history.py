"""Who had an address, and when: from the blocks alone.

Each block remembers its last `HISTORY` owners that are gone, and knows those that are there; the two together are
exact, because both are changed by the write that gives or frees an address. Older owners are forgotten, and so is a
block that was given back (empty for five minutes) with all it remembered.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from datastore.resources.ipblock import IPBlock
from ipam.block import Address, Block


@dataclass(frozen=True, slots=True)
class Tenure:
    """One owner's time with one address. Times are Unix seconds."""

    address: Address
    handle: str
    """Empty for a pod of the past, which its name says."""
    namespace: str
    pod: str
    """Empty for what was no pod's."""
    node: str
    since: float
    until: float | None
    """None: it is the owner's still."""
    block: str


def of_address(blocks: Iterable[IPBlock], address: Address) -> tuple[Tenure, ...]:
    """Who had an address, oldest first, with who has it now."""
    return _sorted(
        tenure
        for block in map(Block.read, blocks)
        if address in block.network
        for tenure in _tenures(block)
        if tenure.address == address
    )


def of_pod(blocks: Iterable[IPBlock], namespace: str, pod: str) -> tuple[Tenure, ...]:
    """Which addresses a pod had, and has, oldest first; pods of one name are not told apart."""
    return _sorted(
        tenure
        for block in map(Block.read, blocks)
        for tenure in _tenures(block)
        if (tenure.namespace, tenure.pod) == (namespace, pod)
    )


def of_handle(blocks: Iterable[IPBlock], handle: str) -> tuple[Tenure, ...]:
    """The same for a handle; the past names handles only of what was no pod's."""
    return _sorted(tenure for block in map(Block.read, blocks) for tenure in _tenures(block) if tenure.handle == handle)


def _tenures(block: Block) -> Iterator[Tenure]:
    spec = block.record.spec
    for past in spec.history:
        address = block.address_of(past.ordinal)
        node = past.node or spec.node
        yield Tenure(address, past.handle, past.namespace, past.pod, node, past.since, past.until, block.name)
    for ordinal, now in spec.allocations.items():
        address = block.address_of(int(ordinal))
        yield Tenure(address, now.handle, now.namespace, now.pod, now.node, now.since, None, block.name)


def _sorted(found: Iterable[Tenure]) -> tuple[Tenure, ...]:
    return tuple(sorted(found, key=lambda one: (one.since, one.until is None, one.until or 0, int(one.address))))
