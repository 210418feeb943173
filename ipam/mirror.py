"""What this process knows of blocks: each one's writer with the block as last written or read.

The mirror chooses, the store decides. It never goes back: a listing that was taken before one of our own writes doesn't
overwrite what that write left.

What is asked at each assign (who has what, where is room, what is to be routed) is kept by block and brought up to date
when a block changes, so that it costs the same with three blocks as with thousand.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from datastore.errors import NotFound
from datastore.resources.ipblock import IPBlock, block_name
from datastore.resources.ippool import BLOCK_RANGE
from datastore.store import Store, Where
from ipam.block import Address, Among, Block, Held, Network
from ipam.group_commit import BlockWriter, Pause
from ipam.pools import Pool
from ipam.reserved import NOTHING, Reserved
from ipam.room import Room

V = TypeVar("V")


class Mirror:
    """The blocks of one node, and those it borrows from."""

    def __init__(
        self, store: Store, node: str, machine: str, pause: Pause, clock: Callable[[], float] = time.time
    ) -> None:
        self.node = node
        self.machine = machine
        self.version = 0
        """How often `networks`, `on_links` or `borrowed` have changed."""
        self._store = store
        self._pause = pause
        self._clock = clock
        self._writers: dict[str, BlockWriter] = {}
        self._free_of_overlap: set[tuple[str, str]] = set()
        """(name, revision) of unready blocks of ours that were listed alone in their cell."""
        self._room = Room()
        """Of this node's blocks."""
        self._lent = Room()
        """Of others' blocks in which this node has an address."""
        self._cooldown_s = 0.0
        self._reserved = NOTHING
        self._networks: dict[str, Network] = {}
        self._on_links: dict[str, Network] = {}
        self._borrowed: dict[str, frozenset[Address]] = {}
        """All three by block; what has none isn't there."""
        self._handles: dict[str, frozenset[str]] = {}
        """Who has addresses, by block; `_by_handle` is the way back."""
        self._by_handle: dict[str, set[str]] = {}

    def set_rules(self, cooldown_s: float, reserved: Reserved) -> None:
        """What decides about room beside the blocks themselves."""
        if (cooldown_s, reserved) != (self._cooldown_s, self._reserved):
            self._cooldown_s, self._reserved = cooldown_s, reserved
            self._room.reopen_all()
            self._lent.reopen_all()

    def blocks(self) -> list[Block]:
        """Every block in the mirror, by name: for what is done now and then."""
        found = (self._writers[name].block for name in sorted(self._writers))
        return [block for block in found if block is not None]

    def is_mine(self, block: Block) -> bool:
        """Whether a block belongs to this node on this machine."""
        return (block.record.spec.node, block.record.spec.machine) == (self.node, self.machine)

    def is_usable(self, block: Block) -> bool:
        """Whether addresses may be given from a block: it is ready, or ours and found free of overlap."""
        return block.record.spec.ready or (block.name, block.record.revision) in self._free_of_overlap

    def found_alone(self, block: Block) -> BlockWriter:
        """Note that an unready block of ours overlaps no other, and give its writer."""
        self._free_of_overlap.add((block.name, block.record.revision))
        writer = self.learn(block)
        self._look_again(block.name, writer.block)
        return writer

    def with_room(self, pools: Sequence[Pool], among: Among | None, without: frozenset[str]) -> BlockWriter | None:
        """The first of this node's blocks, by pool and name, that has an address to give; none of `without`.

        Addresses that others are waiting for already are as good as given. Who asks for certain ones is let in beside
        those who wait: nobody knows which they will be given.
        """
        if among is not None and among.single:
            return self._with_single(pools, among, without)
        return self._look(self._room, pools, among, without)

    def lender(self, pools: Sequence[Pool], among: Among | None) -> BlockWriter | None:
        """The first of others' blocks, of those from which this node has borrowed, that has an address to give."""
        return self._look(self._lent, pools, among, frozenset())

    def has_room(self, block: Block, among: Among | None, after: int = 0) -> bool:
        """Whether a block has an address to give now, after so many others."""
        ordinals = self._reserved.ordinals(block.network)
        return block.has_room(self._clock(), self._cooldown_s, after, among, ordinals)

    def count(self, family: int) -> int:
        """How many blocks of a family this node has, ready."""
        return sum(1 for network in self._networks.values() if network.version == family)

    def networks(self) -> frozenset[Network]:
        """The blocks of this node that have become ready."""
        return frozenset(self._networks.values())

    def on_links(self) -> frozenset[Network]:
        """Those of them that have an address on another plugin's link (`Owner.on_link`)."""
        return frozenset(self._on_links.values())

    def borrowed(self) -> frozenset[Address]:
        """This node's addresses in other nodes' blocks."""
        return frozenset(address for addresses in self._borrowed.values() for address in addresses)

    def lends(self, name: str) -> bool:
        """Whether this node has an address in a block that is another's."""
        return name in self._borrowed

    def of_handle(self, handle: str) -> tuple[Held, ...]:
        """What the mirror says a handle has."""
        names = sorted(self._by_handle.get(handle, ()))
        blocks = (self._writers[name].block for name in names)
        return tuple(held for block in blocks if block is not None for held in block.of_handle(handle))

    async def list_mine(self) -> list[Block]:
        """This node's blocks and those it borrows from, listed afresh; the mirror learns them.

        Raises:
            StoreError: the store can't be read.
        """
        blocks = await self._list(Where("node", self.node))
        for block in blocks:
            self.learn(block)
        return blocks

    async def list_cell(self, cell: Network) -> list[Block]:
        """Every node's blocks in a cell, listed afresh; the mirror learns those that it has already.

        Raises:
            StoreError: the store can't be read.
        """
        return await self._list(Where("cell", str(cell)))

    async def writer_of(self, name: str) -> BlockWriter | None:
        """The writer of a block, read first if the mirror lacks it; None if the block is gone.

        Raises:
            StoreError: the store can't be read.
        """
        writer = self._writers.get(name)
        if writer is not None and writer.block is not None:
            return writer
        try:
            return self.learn(Block.read(await self._store.get(IPBlock, name)))
        except NotFound:
            return None

    def learn(self, block: Block) -> BlockWriter:
        """The writer of a block that was just read, new if need be."""
        writer = self._writers.get(block.name)
        if writer is None:
            writer = BlockWriter(self._store, block, self._pause, self._clock, self._on_change, self.node)
            self._writers[block.name] = writer
            self._look_again(block.name, writer.block)
        elif writer.block is None and not writer.busy:
            writer.see(block)
        return writer

    def forget(self, name: str) -> None:
        """Drop a block that is gone."""
        self._writers.pop(name, None)
        self._look_again(name, None)
        self._free_of_overlap = {known for known in self._free_of_overlap if known[0] != name}

    async def _list(self, where: Where) -> list[Block]:
        before = {name: writer.version for name, writer in self._writers.items()}
        listing = await self._store.list(IPBlock, where)
        blocks = [Block.read(record) for record in sorted(listing.items, key=lambda record: record.name)]
        for block in blocks:
            writer = self._writers.get(block.name)
            if writer is not None and not writer.busy and before.get(block.name) == writer.version:
                writer.see(block)
        return blocks

    def _look(
        self, room: Room, pools: Sequence[Pool], among: Among | None, without: frozenset[str]
    ) -> BlockWriter | None:
        for pool in pools:
            for name in room.names(pool.name, self._clock()):
                writer = self._writers[name]
                if name in without or writer.block is None:
                    continue
                if not pool.holds(writer.block):
                    room.close(name, None)
                elif among is not None:
                    if self.has_room(writer.block, among):
                        return writer
                elif self.has_room(writer.block, None, writer.waiting):
                    return writer
                else:
                    ordinals = self._reserved.ordinals(writer.block.network)
                    room.close(name, writer.block.cools_at(self._cooldown_s, ordinals))
        return None

    def _with_single(self, pools: Sequence[Pool], among: Among, without: frozenset[str]) -> BlockWriter | None:
        """The block of this node that has the only address asked for, free; there are few that could have it."""
        (only,) = among.ranges
        for length in BLOCK_RANGE[only.network.version]:
            writer = self._writers.get(block_name(only.network.supernet(new_prefix=length)))
            block = writer.block if writer is not None else None
            if block is None or block.name in without or not self.is_mine(block) or not self.is_usable(block):
                continue
            if any(pool.holds(block) for pool in pools) and self.has_room(block, among):
                return writer
        return None

    def _on_change(self, writer: BlockWriter) -> None:
        if self._writers.get(writer.name) is writer:  # not one that was forgotten while it wrote
            self._look_again(writer.name, writer.block)

    def _look_again(self, name: str, block: Block | None) -> None:
        """Bring up to date what is known by block, after one has changed or a batch for it has ended."""
        self._index(name, block)
        mine = block is not None and self.is_mine(block)
        borrowed = self._borrowed_of(block) if block is not None and not mine else frozenset()
        for room, belongs in ((self._room, mine), (self._lent, bool(borrowed))):
            if block is not None and belongs and self.is_usable(block):
                room.reopen(name, block.record.spec.pool)
            else:
                room.drop(name)
        ready = block if block is not None and mine and block.record.spec.ready else None
        changes = (
            _put(self._networks, name, None if ready is None else ready.network),
            _put(self._on_links, name, None if ready is None or not _is_on_link(ready) else ready.network),
            _put(self._borrowed, name, borrowed or None),
        )
        self.version += any(changes)

    def _index(self, name: str, block: Block | None) -> None:
        before = self._handles.get(name, frozenset())
        now = frozenset(one.handle for one in block.record.spec.allocations.values()) if block else frozenset()
        for handle in now - before:
            self._by_handle.setdefault(handle, set()).add(name)
        for handle in before - now:
            names = self._by_handle[handle]
            names.discard(name)
            if not names:
                del self._by_handle[handle]
        if block is None:
            self._handles.pop(name, None)
        else:
            self._handles[name] = now

    def _borrowed_of(self, block: Block) -> frozenset[Address]:
        owned = block.record.spec.allocations.items()
        return frozenset(block.address_of(int(ordinal)) for ordinal, one in owned if one.node == self.node)


def _is_on_link(block: Block) -> bool:
    return any(one.on_link for one in block.record.spec.allocations.values())


def _put(known: dict[str, V], name: str, value: V | None) -> bool:
    """Keep what is so of a block now, if anything is; gives whether that is something else than before."""
    before = known.pop(name, None) if value is None else known.get(name)
    if value is not None:
        known[name] = value
    return before != value
