"""Links leave together, a moment after their DELs were answered.

Deleting one link waits for an RCU grace period: 13 ms, more than everything else in a DEL together. Deleting a group
of links waits once for all of them. So DEL only takes the host end down (no packet passes, its routes are gone) and
puts it into a group of its own; here the group goes, in a thread, since the kernel makes the caller wait.

Somebody else might use the same group number: before each reap the group is listed, and if anything in it isn't ours
and down, links are deleted one by one instead.
"""

import asyncio
import logging
from collections.abc import Iterable

from kernel import batch, podlink
from kernel.batch import NetlinkSocket
from kernel.errors import KernelError
from kernel.links import HOST_PREFIX, REAP_GROUP, Link

log = logging.getLogger(__name__)

_GATHER_S = 0.05
"""How long a retired link waits for others to leave with it."""
_AGAIN_S = 1.0


class Reaper:
    """Deletes retired host ends; `run` it as a task."""

    def __init__(self, sock: NetlinkSocket) -> None:
        self._socket = sock
        self._wanted = asyncio.Event()
        self._done = asyncio.Condition()
        self._begun = 0
        self._ended = 0

    def soon(self) -> None:
        """A link was retired."""
        self._wanted.set()

    async def reaped(self) -> None:
        """Wait until everything that is retired now has been deleted: for a round that begins after this call."""
        target = self._begun + 1
        self._wanted.set()
        async with self._done:
            await self._done.wait_for(lambda: self._ended >= target)

    async def run(self) -> None:
        """Reap whenever asked, without end; begins with what an earlier process left."""
        self._wanted.set()
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_GATHER_S)
            self._wanted.clear()
            self._begun += 1
            try:
                await asyncio.to_thread(reap, self._socket)
            except KernelError as error:
                log.warning("links could not be deleted, trying again: %s", error)
                await asyncio.sleep(_AGAIN_S)
                self._wanted.set()
            async with self._done:
                self._ended = self._begun
                self._done.notify_all()


def reap(sock: NetlinkSocket) -> int:
    """Delete every retired link of ours; gives how many there were.

    Raises:
        KernelError: refused.
    """
    group = [link for link in _links(sock) if link.group == REAP_GROUP]
    ours = [link for link in group if link.name.startswith(HOST_PREFIX) and not link.up]
    if not ours:
        return 0
    if len(ours) == len(group):
        sock.transact([podlink.delete_group()])
    else:
        sock.transact([podlink.delete_link(link.index, link.name) for link in ours])
    return len(ours)


def _links(sock: NetlinkSocket) -> Iterable[Link]:
    listing = podlink.list_links()
    for data in sock.datagrams(listing):
        for _, kind, _, body in batch.split(data):
            if kind == podlink.NEWLINK:
                yield podlink.link_of(body)[0]
