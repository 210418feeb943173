"""How full each pool is: a function of pools, blocks and reservations, and of nothing else.

    capacity   every address of the pool
    used       those that somebody owns
    free       those that are neither owned nor reserved; of a disabled pool, too: it only isn't given from now
    blocks     the blocks that lie in the pool, by whatever pool they were made for, ready or not

Pools that don't pass their check have no status; one that overlaps another has, and says so.

A block counts by where it lies: pools are renamed (deleted and made again) while their blocks stay.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import ip_network

import msgspec

from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import COUNT_MAX, IPPool, IPPoolStatus
from datastore.resources.ipreservation import IPReservation
from ipam.block import Block, Network
from ipam.pools import conflicts, faults
from ipam.reserved import Reserved


def usage(
    pools: Iterable[IPPool], blocks: Iterable[IPBlock], reservations: Iterable[IPReservation]
) -> dict[str, IPPoolStatus]:
    """The status of each pool by name; `observed_generation` is the caller's to fill in."""
    reserved = Reserved.of(reservations)
    placed = sorted(map(Block.read, blocks), key=_start)
    by_family = {version: [block for block in placed if block.network.version == version] for version in (4, 6)}
    listed = tuple(pools)
    wrong = faults(listed)
    sound = [pool for pool in listed if pool.name not in wrong]
    overlapping = conflicts(sound)
    return {
        pool.name: msgspec.structs.replace(
            _status(ip_network(pool.spec.cidr), by_family, reserved), conflicts_with=overlapping.get(pool.name, "")
        )
        for pool in sound
    }


def _status(network: Network, by_family: dict[int, list[Block]], reserved: Reserved) -> IPPoolStatus:
    inside = _overlapping(network, by_family[network.version])
    owned = [
        block.address_of(int(ordinal))
        for block in inside
        for ordinal in block.record.spec.allocations
        if block.address_of(int(ordinal)) in network
    ]
    taken = reserved.count(network) + sum(1 for address in owned if not reserved.has(address))
    return IPPoolStatus(
        capacity=min(network.num_addresses, COUNT_MAX),
        used=len(owned),
        free=min(network.num_addresses - taken, COUNT_MAX),
        blocks=len(inside),
    )


def _overlapping(network: Network, blocks: Sequence[Block]) -> Sequence[Block]:
    """Those of the blocks of a family, in order, that have some of a network.

    Of two CIDRs that overlap one holds the other. A block that begins before the network holds it, and ends the search
    backwards only if it is no such block: unready ones may overlap others.
    """
    first = bisect_left(blocks, int(network.network_address), key=_start)
    end = bisect_right(blocks, int(network.broadcast_address), key=_start)
    while first > 0 and blocks[first - 1].network.overlaps(network):
        first -= 1
    return blocks[first:end]


def _start(block: Block) -> int:
    return int(block.network.network_address)
