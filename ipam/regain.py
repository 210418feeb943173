"""What an attachment that lives has, told to the store anew.

While a node's Node object is gone, the controller may take its addresses back (`ipam.reclaim_departed`), and may still
be at it when the node returns. So a node that has just created its Node makes every address of its pods its own again,
before anything else: a new id voids whatever release is under way, and what was freed is assigned once more if nobody
else has been given it. The same puts right what says a wrong node, or was lost with a store that was restored.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ipam.allocator import Allocator, Wanted
from ipam.block import Among, Held, Owner
from ipam.errors import AddressTaken, NoAddress, NoPool, OutsidePools
from ipam.handles import Hold


@dataclass(frozen=True, slots=True)
class Regained:
    """What became of an attachment's addresses."""

    held: tuple[Held, ...]
    """Its own, under new ids."""
    lost: tuple[Held, ...]
    """Another's by now, or in no enabled pool: two pods may be speaking with one address."""


async def regain(allocator: Allocator, owner: Owner, held: Iterable[Held], hold: Hold) -> Regained:
    """Make these addresses the owner's again, adopted where they are his still; the caller settles the hold.

    Raises:
        StoreError, IpamError: the store can't be used; again goes on.
    """
    hold.intend()
    kept: list[Held] = []
    lost: list[Held] = []
    for one in held:
        found = await allocator.adopt(owner, one) or await _assigned(allocator, owner, one, hold)
        if found is not None and found.address == one.address:
            kept.append(found)
        else:
            lost.append(one)
    return Regained(tuple(kept), tuple(lost))


async def _assigned(allocator: Allocator, owner: Owner, held: Held, hold: Hold) -> Held | None:
    family = held.address.version
    wanted = Wanted((family,), among={family: Among.only(held.address)})
    try:
        return (await allocator.assign(owner, wanted, hold))[0]
    except (AddressTaken, NoAddress, NoPool, OutsidePools):
        return None
