"""conntrack's flows of addresses that change owners.

A flow outlives its pod in conntrack (UDP for two minutes), and a packet of an established flow passes whatever the
policy. So the flows of an address are forgotten when it is freed, beside the answer, and an address that was ever
anybody's is looked at again before its next owner's policy gate, unless that was done since it was freed.
"""

import asyncio
import logging
from collections.abc import Iterable

from ipam.block import Address
from kernel import conntrack
from kernel.batch import NetlinkSocket
from kernel.errors import KernelError

log = logging.getLogger(__name__)

_REMEMBERED = 4096
"""Addresses known to be clean; one that is forgotten here is only looked at once more."""


class Flows:
    """Cleans up in one thread after the other, so that the kernel's table is scanned by one at a time."""

    def __init__(self, sock: NetlinkSocket) -> None:
        self._socket = sock
        self._one_at_a_time = asyncio.Lock()
        self._clean: dict[Address, asyncio.Task[None]] = {}

    def forget_soon(self, addresses: Iterable[Address]) -> None:
        """Forget the flows of addresses just freed; their links are down, so no new ones come."""
        for address in addresses:
            self._clean.pop(address, None)
            self._clean[address] = asyncio.create_task(self._forget(address))
        while len(self._clean) > _REMEMBERED:
            self._clean.pop(next(iter(self._clean)))

    async def forgotten(self, addresses: Iterable[Address]) -> None:
        """Return once no flow of an earlier owner is left.

        Raises:
            KernelError: the kernel refused.
        """
        for address in addresses:
            cleaning = self._clean.pop(address, None)
            if cleaning is not None:
                await asyncio.wait((cleaning,))
            if cleaning is None or cleaning.exception() is not None:
                await self._forget(address)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._clean.values(), return_exceptions=True)

    async def _forget(self, address: Address) -> None:
        async with self._one_at_a_time:
            try:
                await asyncio.to_thread(conntrack.forget, self._socket, address)
            except KernelError as error:
                log.warning("flows of %s could not be forgotten: %s", address, error)
                raise
