"""The three changes of a block, as members of a group commit."""

from dataclasses import dataclass, replace

from ipam.block import Among, Block, Held, Owner
from ipam.group_commit import Moved
from ipam.reserved import NOTHING, Reserved


@dataclass(slots=True)
class Assign:
    """Give `owner` an address, in a block that is still whose it was when it was chosen."""

    owner: Owner
    id: str
    now: float
    cooldown_s: float
    affinity: tuple[str, str]
    """The block's node and machine."""
    opens_at: str = ""
    """The revision at which the block was found free of overlap: there, and only there, this change makes it ready."""
    among: Among | None = None
    """What limits the choice; None: any address will do."""
    reserved: Reserved = NOTHING
    """What isn't given to who doesn't ask for just that."""
    held: Held | None = None
    """What the last `apply` gave."""

    @property
    def moves(self) -> bool:
        """Another block may serve as well."""
        return True

    @property
    def must_write(self) -> bool:
        """It changes the block anyway."""
        return False

    def apply(self, block: Block) -> Block:
        """See `Change.apply`; raises Moved, BlockFull or Frozen."""
        spec = block.record.spec
        if (spec.node, spec.machine) != self.affinity:
            raise Moved(block.name)
        if not spec.ready:
            if not self.opens_at or block.record.revision != self.opens_at:
                raise Moved(block.name)
            block = block.made_ready()
        ordinals = self.reserved.ordinals(block.network)
        changed, self.held = block.assign(self.owner, self.id, self.now, self.cooldown_s, self.among, ordinals)
        return changed

    def given(self, block: Block) -> Held | None:
        """The address, as a block has it that this was applied to and written; None if it isn't there."""
        held = self.held
        if held is not None and held.is_in(block):
            return held
        found = block.of_id(self.id)
        return replace(found, fresh=held is not None and held.fresh) if found is not None else None

    def is_in(self, block: Block) -> bool:
        """See `Change.is_in`."""
        return block.of_id(self.id) is not None


@dataclass(frozen=True, slots=True)
class Adopt:
    """Give `owner` a new id for the address that its handle has already."""

    held: Held
    owner: Owner
    id: str
    now: float

    @property
    def moves(self) -> bool:
        """Only this block has the address."""
        return False

    @property
    def must_write(self) -> bool:
        """It changes the block anyway."""
        return False

    def apply(self, block: Block) -> Block:
        """See `Change.apply`; raises Frozen, or Moved where the handle doesn't have the address any more."""
        if all(found.ordinal != self.held.ordinal for found in block.of_handle(self.owner.handle)):
            raise Moved(block.name)
        return block.adopt(self.held.ordinal, self.owner, self.id, self.now)[0]

    def is_in(self, block: Block) -> bool:
        """See `Change.is_in`."""
        return block.of_id(self.id) is not None


@dataclass(frozen=True, slots=True)
class Release:
    """Free an allocation by its id; one that isn't there is free already."""

    held: Held
    now: float
    must_write: bool = False
    """The write that made the allocation was lost: win a write, so that it can't land after this."""

    @property
    def moves(self) -> bool:
        """Only this block has the address."""
        return False

    def apply(self, block: Block) -> Block:
        """See `Change.apply`; raises Frozen.

        The id decides, wherever it stands: a lost write may have put it at another ordinal than the one told.
        """
        if self.must_write:
            block.check_thawed()
        found = block.of_id(self.held.id)
        return block if found is None else block.release(found.ordinal, self.held.id, self.now)

    def is_in(self, block: Block) -> bool:
        """See `Change.is_in`."""
        return not self.must_write and block.of_id(self.held.id) is None
