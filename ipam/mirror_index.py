"""What the mirror finds without looking at every block, kept current by the difference that each change makes.

An assign on a node with a thousand blocks must cost what it costs on a node with one: a handle's blocks, those with a
free ordinal, and the node's routes are looked up here, not gathered.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping

from datastore.resources.ipblock import Allocation
from ipam.block import Address, Block, Network

_NOTHING: Mapping[str, Allocation] = {}


class MirrorIndex:
    """Of the blocks of one node, and those it borrows from."""

    def __init__(self, node: str, machine: str) -> None:
        self._node = node
        self._machine = machine
        self._by_handle: dict[str, dict[str, int]] = {}
        """Names of blocks, with how many allocations the handle has there."""
        self._not_full: list[str] = []
        """Names of this node's blocks with an ordinal that nobody owns, in order."""
        self._on_link: dict[Network, int] = {}
        self._borrowed: set[Address] = set()
        self._networks: set[Network] = set()
        self.version = 0
        """How often `networks`, `borrowed` or `on_links` have changed."""

    @property
    def networks(self) -> frozenset[Network]:
        """The blocks of this node that have become ready."""
        return frozenset(self._networks)

    @property
    def borrowed(self) -> frozenset[Address]:
        """This node's addresses in other nodes' blocks."""
        return frozenset(self._borrowed)

    @property
    def on_links(self) -> frozenset[Network]:
        """The blocks of this node that have an address on another plugin's link (`Owner.on_link`)."""
        return frozenset(self._on_link)

    def is_mine(self, block: Block) -> bool:
        """Whether a block belongs to this node on this machine."""
        spec = block.record.spec
        return spec.node == self._node and spec.machine == self._machine

    def of_handle(self, handle: str) -> tuple[str, ...]:
        """The blocks, by name, in which a handle has something."""
        return tuple(sorted(self._by_handle.get(handle, ())))

    def not_full(self) -> Iterator[str]:
        """This node's blocks, by name, in which not every ordinal is owned; released ones may have to cool."""
        return iter(tuple(self._not_full))

    def put(self, before: Block | None, after: Block | None) -> None:
        """A block has become another; None: it wasn't, or isn't, there."""
        if before is after:
            return
        mine_before, mine = _mine(self, before), _mine(self, after)
        if before is not None and after is not None and mine_before == mine:
            self._replace(before, after, mine=mine)
            return
        if before is not None:
            self._replace(before, None, mine=mine_before)
        if after is not None:
            self._replace(None, after, mine=mine)

    def _replace(self, before: Block | None, after: Block | None, *, mine: bool) -> None:
        block = after or before
        if block is None:
            return
        was = before.record.spec.allocations if before is not None else _NOTHING
        now = after.record.spec.allocations if after is not None else _NOTHING
        for ordinal, allocation in now.items():
            known = was.get(ordinal)
            if known is not allocation:
                if known is not None:
                    self._lose(block, ordinal, known, mine=mine)
                self._gain(block, ordinal, allocation, mine=mine)
        for ordinal, known in was.items():
            if ordinal not in now:
                self._lose(block, ordinal, known, mine=mine)
        if mine:
            self._set_routed(block.network, after is not None and after.record.spec.ready)
            self._set_not_full(block.name, after is not None and len(now) < block.network.num_addresses)

    def _gain(self, block: Block, ordinal: str, allocation: Allocation, *, mine: bool) -> None:
        places = self._by_handle.setdefault(allocation.handle, {})
        places[block.name] = places.get(block.name, 0) + 1
        if mine and allocation.on_link:
            self._count_on_link(block.network, 1)
        elif not mine and allocation.node == self._node:
            self._borrowed.add(block.address_of(int(ordinal)))
            self.version += 1

    def _lose(self, block: Block, ordinal: str, allocation: Allocation, *, mine: bool) -> None:
        places = self._by_handle[allocation.handle]
        places[block.name] -= 1
        if not places[block.name]:
            del places[block.name]
        if not places:
            del self._by_handle[allocation.handle]
        if mine and allocation.on_link:
            self._count_on_link(block.network, -1)
        elif not mine and allocation.node == self._node:
            self._borrowed.discard(block.address_of(int(ordinal)))
            self.version += 1

    def _count_on_link(self, network: Network, by: int) -> None:
        before = self._on_link.pop(network, 0)
        if before + by:
            self._on_link[network] = before + by
        if not before or not before + by:
            self.version += 1

    def _set_routed(self, network: Network, routed: bool) -> None:
        if (network in self._networks) != routed:
            (self._networks.add if routed else self._networks.discard)(network)
            self.version += 1

    def _set_not_full(self, name: str, not_full: bool) -> None:
        place = bisect_left(self._not_full, name)
        there = place < len(self._not_full) and self._not_full[place] == name
        if not_full and not there:
            insort(self._not_full, name)
        elif there and not not_full:
            del self._not_full[place]


def _mine(index: MirrorIndex, block: Block | None) -> bool:
    return block is not None and index.is_mine(block)
