"""How full pools and blocks are, and what becomes of one address; from what was read of a datastore, no I/O.

capacity of a pool = used + reserved + free
used        somebody owns it
reserved    an IPReservation keeps it for whoever asks for it by itself
free        anybody may be given it: at once, or when it has cooled (cooling)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from datastore.resources.ipblock import Allocation
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from ipam.block import Address, Block, Network


@dataclass(frozen=True, slots=True)
class BlockUsage:
    """One block, counted."""

    block: Block
    used: int
    borrowed: int
    """Of the used ones, those of other nodes' pods."""
    reserved: int
    cooling: int
    free: int


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """One pool, counted; what lies in blocks that aren't labelled with the pool counts where it lies."""

    pool: IPPool
    capacity: int
    used: int
    borrowed: int
    reserved: int
    cooling: int
    free: int
    blocks: int
    blocks_at_most: int


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


@dataclass(frozen=True, slots=True)
class Reserved:
    """The addresses of some IPReservations."""

    networks: tuple[Network, ...]

    @classmethod
    def of(cls, reservations: Iterable[IPReservation]) -> "Reserved":
        """The union of what they reserve."""
        some = [ip_network(text) for one in reservations for text in one.spec.reserved_cidrs]
        four = [one for one in some if isinstance(one, IPv4Network)]
        six = [one for one in some if isinstance(one, IPv6Network)]
        return cls((*collapse_addresses(four), *collapse_addresses(six)))

    def has(self, address: Address) -> bool:
        """Whether an address is reserved."""
        return any(address in network for network in self.networks)

    def count(self, network: Network) -> int:
        """How many addresses of a network are reserved."""
        shared = (one for one in self.networks if one.version == network.version and one.overlaps(network))
        return sum(min(one.num_addresses, network.num_addresses) for one in shared)


def of_block(block: Block, reserved: Reserved, now: float, cooldown_s: float) -> BlockUsage:
    """One block at `now`."""
    spec = block.record.spec
    used = len(spec.allocations)
    kept = reserved.count(block.network)
    if kept:
        kept -= sum(1 for ordinal in spec.allocations if reserved.has(block.address_of(int(ordinal))))
    return BlockUsage(
        block,
        used,
        sum(1 for allocation in spec.allocations.values() if allocation.node != spec.node),
        kept,
        sum(1 for _, at in spec.released if min(at, now) + cooldown_s > now),
        block.network.num_addresses - used - kept,
    )


def of_pool(pool: IPPool, blocks: Iterable[Block], reserved: Reserved, now: float, cooldown_s: float) -> PoolUsage:
    """One pool at `now`, by all the blocks that lie in it."""
    network = ip_network(pool.spec.cidr)
    counted = [of_block(block, reserved, now, cooldown_s) for block in blocks if block.network.overlaps(network)]
    used = sum(one.used for one in counted)
    in_blocks = sum(reserved.count(one.block.network) for one in counted)
    kept = reserved.count(network) - in_blocks + sum(one.reserved for one in counted)
    return PoolUsage(
        pool,
        network.num_addresses,
        used,
        sum(one.borrowed for one in counted),
        kept,
        sum(one.cooling for one in counted),
        network.num_addresses - used - kept,
        len(counted),
        1 << (pool.block_prefix_len - network.prefixlen),
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
    if block is not None:
        ordinal = int(address) - int(block.network.network_address)
        allocation = block.record.spec.allocations.get(str(ordinal))
        if allocation is not None:
            return Whereabouts(address, Standing.ALLOCATED, pool, block, allocation)
    reservation = next((one.name for one in reservations if Reserved.of([one]).has(address)), "")
    if not pool:
        return Whereabouts(address, Standing.OUTSIDE, pool, block, reservation=reservation)
    if reservation:
        return Whereabouts(address, Standing.RESERVED, pool, block, reservation=reservation)
    if block is not None:
        released = dict(block.record.spec.released).get(ordinal, 0.0)
        until = min(released, now) + cooldown_s
        if released and until > now:
            return Whereabouts(address, Standing.COOLING, pool, block, until=until)
    return Whereabouts(address, Standing.FREE, pool, block)
