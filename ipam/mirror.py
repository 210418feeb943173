"""What this process knows of blocks: each one's writer with the block as last written or read.

The mirror chooses, the store decides. It never goes back: a listing that was taken before one of our own writes doesn't
overwrite what that write left.
"""

from collections.abc import Iterator

from datastore.errors import NotFound
from datastore.resources.ipblock import IPBlock
from datastore.store import Store, Where
from ipam.block import Among, Block, Held, Network
from ipam.group_commit import BlockWriter, Pause
from ipam.mirror_index import MirrorIndex


class Mirror:
    """The blocks of one node, and those it borrows from."""

    def __init__(self, store: Store, node: str, machine: str, pause: Pause) -> None:
        self.node = node
        self.machine = machine
        self._store = store
        self._pause = pause
        self._writers: dict[str, BlockWriter] = {}
        self.index = MirrorIndex(node, machine)
        self._free_of_overlap: set[tuple[str, str]] = set()
        """(name, revision) of unready blocks of ours that were listed alone in their cell."""

    def blocks(self) -> list[Block]:
        """Every block in the mirror, by name."""
        found = (self._writers[name].block for name in sorted(self._writers))
        return [block for block in found if block is not None]

    def is_mine(self, block: Block) -> bool:
        """Whether a block belongs to this node on this machine."""
        return self.index.is_mine(block)

    def is_usable(self, block: Block) -> bool:
        """Whether addresses may be given from a block: it is ready, or ours and found free of overlap."""
        return block.record.spec.ready or (block.name, block.record.revision) in self._free_of_overlap

    def found_alone(self, block: Block) -> BlockWriter:
        """Note that an unready block of ours overlaps no other, and give its writer."""
        self._free_of_overlap.add((block.name, block.record.revision))
        return self.learn(block)

    def with_room(self, name: str, now: float, cooldown_s: float, among: Among | None = None) -> BlockWriter | None:
        """The block's writer if it has an address to give after those that are already waiting for one.

        Who asks for certain ones is let in beside those who wait: nobody knows which they will be given.
        """
        writer = self._writers.get(name)
        if writer is None or writer.block is None:
            return None
        after = writer.waiting if among is None else 0
        return writer if writer.block.has_room(now, cooldown_s, after, among) else None

    def not_full(self) -> Iterator[Block]:
        """This node's blocks in which not every ordinal is owned, by name."""
        found = (self._writers[name].block for name in self.index.not_full() if name in self._writers)
        return (block for block in found if block is not None)

    def of_handle(self, handle: str) -> tuple[Held, ...]:
        """What the mirror says a handle has."""
        blocks = (self._writers[name].block for name in self.index.of_handle(handle) if name in self._writers)
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
            writer = self._writers[block.name] = BlockWriter(self._store, block, self._pause, self.index.put)
        elif writer.block is None and not writer.busy:
            writer.block = block
        return writer

    def forget(self, name: str) -> None:
        """Drop a block that is gone."""
        writer = self._writers.pop(name, None)
        if writer is not None:
            writer.leave_the_mirror()
        self._free_of_overlap = {known for known in self._free_of_overlap if known[0] != name}

    async def _list(self, where: Where) -> list[Block]:
        before = {name: writer.version for name, writer in self._writers.items()}
        listing = await self._store.list(IPBlock, where)
        blocks = [Block.read(record) for record in sorted(listing.items, key=lambda record: record.name)]
        for block in blocks:
            writer = self._writers.get(block.name)
            if writer is not None and not writer.busy and before.get(block.name) == writer.version:
                writer.block = block
        return blocks
