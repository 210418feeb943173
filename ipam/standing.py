"""How full a block is, and what becomes of one address; from what was read of a datastore, no I/O.

allocated   somebody owns it
cooling     it was released so lately that nobody is given it yet, but who asks for this very one
reserved    an IPReservation keeps it for who asks for this very one
free        anybody may be given it
outside     no pool has it
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network

from datastore.resources.ipblock import Allocation
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from ipam.block import Address, Block
from ipam.reserved import Reserved


@dataclass(frozen=True, slots=True)
class BlockUsage:
    """One block, counted: used, reserved and free are all its addresses."""

    block: Block
    used: int
    borrowed: int
    """Of the used ones, those of other nodes' pods."""
    reserved: int
    cooling: int
    """Of the free ones, those that nobody is given yet."""
    free: int


class Standing(StrEnum):
    """What an address is."""

    ALLOCATED = "allocated"
    COOLING = "cooling"
    RESERVED = "reserved"
    FREE = "free"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One address, and why it is what it is."""

    address: Address
    standing: Standing
    pool: str = ""
    block: Block | None = None
    allocation: Allocation | None = None
    until: float = 0
    """When a cooling address has cooled, in Unix seconds."""
    reservation: str = ""


def of_block(block: Block, reserved: Reserved, now: float, cooldown_s: float) -> BlockUsage:
    """One block at `now`."""
    spec = block.record.spec
    kept = reserved.ordinals(block.network)
    unowned = sum(1 for ordinal in kept if str(ordinal) not in spec.allocations)
    return BlockUsage(
        block,
        len(spec.allocations),
        sum(1 for allocation in spec.allocations.values() if allocation.node != spec.node),
        unowned,
        sum(1 for ordinal, at in spec.released if ordinal not in kept and min(at, now) + cooldown_s > now),
        block.network.num_addresses - len(spec.allocations) - unowned,
    )


def whereabouts(
    address: Address,
    blocks: Iterable[Block],
    pools: Sequence[IPPool],
    reservations: Iterable[IPReservation],
    now: float,
    cooldown_s: float,
) -> Whereabouts:
    """What an address is at `now`; `blocks` are those of its cell, or more."""
    pool = next((one.name for one in pools if address in ip_network(one.spec.cidr)), "")
    block = next((one for one in blocks if address in one.network), None)
    ordinal = int(address) - int(block.network.network_address) if block is not None else 0
    allocation = block.record.spec.allocations.get(str(ordinal)) if block is not None else None
    if allocation is not None:
        return Whereabouts(address, Standing.ALLOCATED, pool, block, allocation)
    reservation = next((one.name for one in reservations if Reserved.of([one]).has(address)), "")
    if not pool:
        return Whereabouts(address, Standing.OUTSIDE, pool, block, reservation=reservation)
    if reservation:
        return Whereabouts(address, Standing.RESERVED, pool, block, reservation=reservation)
    released = dict(block.record.spec.released).get(ordinal, 0.0) if block is not None else 0.0
    until = min(released, now) + cooldown_s
    if until > now:
        return Whereabouts(address, Standing.COOLING, pool, block, until=until)
    return Whereabouts(address, Standing.FREE, pool, block)
