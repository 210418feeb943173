"""This node's ends of tunnels: one address of each family in a pool with an encapsulation, told in its Node.

Which pools those are follows from the pools, their node selectors and `allowedUses`. The address is the node's under a
handle of its own, so that the same one is there after a restart; it goes back when no pool needs it any more, and with
the Node when that is deleted (`ipam.reclaim_departed`).
"""

import asyncio
import logging
from collections.abc import Callable

from datastore.errors import StoreError
from ipam.allocator import Allocator, Wanted
from ipam.block import Address, Owner
from ipam.errors import HandleBusy, IpamError
from ipam.handles import Handles
from ipam.pools import TUNNEL as TUNNEL_USE
from ipam.reclaim import TUNNEL

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_FAMILIES = (4, 6)


class TunnelKeeper:
    """Keeps the addresses; `run` it, and tell it by `soon` that pools or labels have changed."""

    def __init__(self, node: str, allocator: Allocator, handles: Handles, on_change: Callable[[], None]) -> None:
        self._node = node
        self._allocator = allocator
        self._handles = handles
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._done: dict[int, tuple[str, ...] | None] = dict.fromkeys(_FAMILIES)
        """By family the pools for which it was seen to last."""
        self._addresses: dict[int, Address] = {}

    def addresses(self) -> tuple[Address, ...] | None:
        """The ends, IPv4 first; None while not every family has been seen to."""
        if None in self._done.values():
            return None
        return tuple(self._addresses[family] for family in sorted(self._addresses))

    def soon(self) -> None:
        """Look again."""
        self._changed.set()

    async def run(self) -> None:
        """See to it, without end."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.look()
                pause_s = _FIRST_PAUSE_S
            except (StoreError, IpamError, HandleBusy) as error:
                log.warning("no end of a tunnel for now, trying again in %.0f s: %s", pause_s, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                self._changed.set()

    async def look(self) -> None:
        """Have an address of each family for which there is a pool, and none of another.

        Raises:
            StoreError, IpamError, HandleBusy: it can't be had, or given back, for now.
        """
        for family in _FAMILIES:
            pools = self._allocator.tunnelled(family)
            if pools != self._done[family]:
                await self._see_to(family, pools)
                self._done[family] = pools
                self._on_change()

    async def _see_to(self, family: int, pools: tuple[str, ...]) -> None:
        handle = f"{TUNNEL}{self._node}/ipv{family}"
        before = self._addresses.get(family)
        async with self._handles.hold(handle) as hold:
            held = await self._allocator.find(handle)
            if pools:
                wanted = Wanted((family,), {family: pools}, use=TUNNEL_USE)
                if held and not await self._allocator.serves(held[0], wanted):
                    await self._allocator.release(held)
                (now,) = await self._allocator.assign(Owner(handle, self._node), wanted, hold)
                self._addresses[family] = now.address
            else:
                await self._allocator.release_handle(handle, hold)
                self._addresses.pop(family, None)
            hold.settle()
        if self._addresses.get(family) != before:
            log.info("the IPv%d end of this node's tunnels is %s", family, self._addresses.get(family, "gone"))
