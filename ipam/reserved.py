"""Addresses that nobody is given unless he asks for exactly them (IPReservation).

Made once when the reservations change: disjoint ranges, sorted. Then whether an address is reserved is one bisection,
and which ordinals of a block are is worked out once for each block, however many reservations there are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from datastore.resources.ipreservation import IPReservation
from ipam.block import Address, Network

_BLOCKS_REMEMBERED = 4096
"""More than any node has; beyond, the ordinals are worked out again."""


class Reserved:
    """The reserved addresses of both families."""

    def __init__(self, cidrs: Iterable[str] = ()) -> None:
        networks = [ip_network(text) for text in cidrs]
        self._ranges = {version: _merged(one for one in networks if one.version == version) for version in (4, 6)}
        self._ordinals: dict[Network, frozenset[int]] = {}

    @classmethod
    def of(cls, reservations: Iterable[IPReservation]) -> "Reserved":
        """What these keep free; they have passed their `check`."""
        return cls(cidr for one in reservations for cidr in one.spec.reserved_cidrs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reserved) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(tuple(self._ranges.values()))

    def __bool__(self) -> bool:
        return any(self._ranges.values())

    def has(self, address: Address) -> bool:
        """Whether an address is reserved."""
        ranges, number = self._ranges[address.version], int(address)
        index = bisect_right(ranges, number, key=_first) - 1
        return index >= 0 and number <= ranges[index][1]

    def count(self, network: Network) -> int:
        """How many addresses of a network are."""
        return sum(last - first + 1 for first, last in self._within(network))

    def covers(self, network: Network) -> bool:
        """Whether all of a network is."""
        return self.count(network) == network.num_addresses

    def ordinals(self, block: Network) -> frozenset[int]:
        """The places of reserved addresses in a block."""
        if not self._ranges[block.version]:
            return _NONE
        found = self._ordinals.get(block)
        if found is None:
            if len(self._ordinals) >= _BLOCKS_REMEMBERED:
                self._ordinals.clear()
            start = int(block.network_address)
            found = frozenset(one - start for first, last in self._within(block) for one in range(first, last + 1))
            self._ordinals[block] = found
        return found

    def _within(self, network: Network) -> Iterator[tuple[int, int]]:
        ranges = self._ranges[network.version]
        start, end = int(network.network_address), int(network.broadcast_address)
        for index in range(bisect_left(ranges, start, key=_last), len(ranges)):
            first, last = ranges[index]
            if first > end:
                return
            yield max(first, start), min(last, end)


_NONE: frozenset[int] = frozenset()


def _first(one: tuple[int, int]) -> int:
    return one[0]


def _last(one: tuple[int, int]) -> int:
    return one[1]


def _merged(networks: Iterable[Network]) -> tuple[tuple[int, int], ...]:
    """Disjoint ranges in order; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((int(one.network_address), int(one.broadcast_address)) for one in networks):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)


NOTHING = Reserved()
