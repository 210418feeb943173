"""This node's part of reclaim: its witnesses, and a look every minute (`ipam.reclaim_own` has the rules).

How it stands to what else frees addresses here:

    reboot        another boot: no grace, for no link can have lived on
    free_lost     a record whose link has gone: its DEL never came, and is done without it
    reclaim       an address without a record
    GC            what the runtime doesn't name any more, whatever there is of it

So an attachment whose DEL gets lost loses its record first, and nothing is done twice: each step wants what the one
before it leaves.
"""

import itertools
import logging
from collections.abc import Callable, Iterable

from agent.upkeep import pause, undo_abandoned
from cni.config import Attachment
from cni.node import Node
from cni.records import Record, Records
from datastore.errors import StoreError
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.store import Store
from ipam.block import Address
from ipam.errors import IpamError
from ipam.handles import is_attachments
from ipam.reclaim_own import OwnReclaim
from ipam.takeover import take_over
from kernel import netlink
from kernel.errors import KernelError
from kernel.links import HOST_PREFIX

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""Between looks; with a short grace three to a grace, for looks further apart than the grace begin anew."""
Local = Callable[[], Iterable[Record]]
_FRESH = 10
"""Every tenth look lists this node's blocks: in Kubernetes each listing goes through everybody's."""


class NodeWitness:
    """See `ipam.reclaim_own.Witness`; `local` are the records in memory: of complete attachments with links of ours."""

    def __init__(self, records: Records, local: Local) -> None:
        self._records = records
        self._local = local
        self._addresses: frozenset[Address] = frozenset()

    def look_again(self) -> None:
        """Take note of the records in memory, so that nearly every address is found without reading a file."""
        self._addresses = frozenset(address for record in self._local() for address in record.addresses)

    def recorded(self, handle: str, address: Address | None) -> bool:
        """See `Witness.recorded`."""
        if address is None:
            return self._records.has_handle(handle)
        return address in self._addresses or self._is_being_made(handle) or self._is_in_files(address)

    async def routed(self) -> frozenset[Address]:
        """See `Witness.routed`."""
        return frozenset(
            route.destination.network_address
            for route in await netlink.routes()
            if route.interface.startswith(HOST_PREFIX)
        )

    def _is_being_made(self, handle: str) -> bool:
        """Whether the attachment is on its way in or out: then its record needn't say yet, or any more, what it has."""
        if not is_attachments(handle) or not self._records.has_handle(handle):
            return False
        attachment = Attachment(*handle.split(":"))
        record = self._records.read(attachment)
        return self._records.journalled(attachment) is not None or (record is not None and not record.complete)

    def _is_in_files(self, address: Address) -> bool:
        return any(address in record.addresses for record in (*self._records.all(), *self._records.unfinished()))


async def reclaim(
    node: Node, store: Store, machine: str, local: Local, settings: Callable[[], ClusterConfigurationSpec]
) -> None:
    """Look over this node's own addresses, without end.

    First what died with a write in flight is undone, because an intent makes its address anything but ownerless.
    """
    witness = NodeWitness(node.records, local)
    own = OwnReclaim(store, node.allocator, node.handles, witness, node=node.name, machine=machine, tell=_log)
    for looks in itertools.count(1):
        await pause(lambda: min(EVERY_S, settings().reclaim_grace_seconds / 3))
        witness.look_again()
        fresh = looks % _FRESH == 0
        try:
            await undo_abandoned(node)
            if fresh:
                await take_over_blocks(store, node.name, machine)  # what was frozen when this agent started
            await own.look(settings(), fresh=fresh)
        except (StoreError, IpamError, KernelError, OSError) as error:
            log.warning("this node's addresses can't be looked over now: %s", error)


def _log(line: str) -> None:
    log.info("%s", line)


async def take_over_blocks(store: Store, node: str, machine: str) -> None:
    """Make blocks of another machine that had this node's name this one's; the allocator is to be loaded after.

    Raises:
        StoreError: the store can't be used.
    """
    for line in await take_over(store, node, machine):
        _log(line)
