"""DEL, and the undoing of an ADD that failed: the same steps, in one order.

    record -> journal (one rename)        from here on the removal is owed, whoever finishes it
    host end down, into the reaper's group    no packet passes, routes are gone
    sets                                  the policy forgets the pod
    answer                                of a DEL that has a journal entry (`cni.removals`)
    addresses by id, endpoint             both at once: one commit
    journal entry dropped

What the store refuses stays in the journal and is replayed: the runtime was answered success all the same, because
nothing of the pod is left on this node, and its address isn't given to anybody else before it is freed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cni import delegate, faults
from cni.config import Attachment
from cni.delegate import Delegated
from cni.node import Node
from cni.records import Record
from datastore.errors import StoreError, Unavailable
from ipam.block import Address
from ipam.errors import IpamError
from ipam.handles import Hold
from kernel.links import host_interface

log = logging.getLogger(__name__)

_REMEMBERED = 4096
"""Handles of which a second DEL is answered without the store; kubelets send it within minutes."""


Down = Callable[[], Awaitable[None]]
"""Awaited when nothing of the pod is left on this node and what the store is owed stands in the journal."""


class Unfinished(Exception):
    """A removal of the same attachment is still owed to the store; `reason` says what it said."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def delete(node: Node, attachment: Attachment, down: Down | None = None, below: Delegated | None = None) -> None:
    """DEL: succeeds whatever has gone already. `below` is the IPAM plugin to ask where there is no record.

    Raises:
        HandleBusy: another call for this attachment doesn't end.
        KernelError: the host end can't be taken down.
    """
    async with node.handles.hold(attachment.handle) as hold:
        await remove(node, attachment, hold, down, below)


async def remove(
    node: Node, attachment: Attachment, hold: Hold, down: Down | None = None, below: Delegated | None = None
) -> None:
    """Undo whatever there is of an attachment; what the store refuses stays in the journal.

    Raises:
        KernelError: the host end can't be taken down.
    """
    record = node.records.retire(attachment) or node.records.journalled(attachment)
    if record is None and attachment.handle in node.freed and not hold.uncertain:
        return
    try:
        await _finish(node, record or _unrecorded(attachment, below), hold, journalled=record is not None, down=down)
    except (StoreError, IpamError) as error:
        if record is None and isinstance(error, delegate.DelegateFailed) and not error.ran:
            log.warning("nothing is known of %s, and nobody to ask about it: %s", attachment.handle, error)
            return
        if record is None:
            node.records.journal(_unrecorded(attachment, below))
        log.warning("the removal of %s waits in the journal: %s", attachment.handle, error)


async def settle(node: Node, attachment: Attachment, hold: Hold) -> None:
    """Finish a removal of the same attachment that is still owed, before it is added again.

    Raises:
        Unfinished: it can't be finished now.
    """
    owed = node.records.journalled(attachment)
    if owed is None:
        return
    try:
        await _finish(node, owed, hold, journalled=True)
    except (StoreError, IpamError) as error:
        raise Unfinished(str(error)) from error


async def replay(node: Node) -> int:
    """Finish every removal that is owed and can be finished; gives how many are still owed."""
    left = 0
    everything = list(node.records.unfinished())
    for number, owed in enumerate(everything, 1):
        try:
            async with node.handles.hold(owed.attachment.handle) as hold:
                await settle(node, owed.attachment, hold)
        except (Unfinished, IpamError, OSError) as error:
            left += 1
            log.info("the removal of %s still waits: %s", owed.attachment.handle, error)
            if isinstance(error.__cause__, Unavailable):
                # Nor could the others be finished, and each would keep its DEL, and the tombstones, waiting.
                return left + len(everything) - number
    return left


async def _finish(node: Node, record: Record, hold: Hold, *, journalled: bool, down: Down | None = None) -> None:
    if faults.ACTIVE:
        await faults.at("del journalled")
    refused = await _give_lease_back(record)
    if not record.on_link:
        await _take_down(node, record)
    if journalled and down is not None and record.delegated is None:
        await down()
    if refused is not None:
        raise refused
    freed = await _release(node, record, hold)
    if faults.ACTIVE:
        await faults.at("del released")
    if journalled:
        node.records.drop(record.attachment)
    hold.settle()
    node.flows.forget_soon(freed)
    node.freed[record.attachment.handle] = None
    while len(node.freed) > _REMEMBERED:
        del node.freed[next(iter(node.freed))]


async def _give_lease_back(record: Record) -> delegate.DelegateFailed | None:
    """Give back what is given back over the pod's own interface; gives the failure, which keeps no link up."""
    if record.delegated is not None and record.delegated.needs_link:
        try:
            await _delete_below(record, record.delegated)
        except delegate.DelegateFailed as error:
            return error
    return None


async def _delete_below(record: Record, plugin: Delegated) -> None:
    """The delegated DEL.

    What never had an address, because its ADD failed, is not owed for ever to a plugin that doesn't take its
    configuration.
    """
    try:
        await delegate.run(plugin, "DEL", record.attachment)
    except delegate.DelegateFailed as error:
        if record.complete or not error.answered:
            raise
        log.warning("%s was not freed below: %s", record.attachment.handle, error)


async def _take_down(node: Node, record: Record) -> None:
    node.links.retire(record.host_interface)
    node.reaper.soon()
    if faults.ACTIVE:
        await faults.at("del down")
    await node.policy.dismiss(record)
    if faults.ACTIVE:
        await faults.at("del dismissed")


async def _release(node: Node, record: Record, hold: Hold) -> tuple[Address, ...]:
    """Free the addresses and withdraw the endpoint, both even if one is refused; gives the addresses."""
    withdrawal = _nothing() if record.on_link else node.endpoints.withdraw(record)
    addresses, endpoint = await asyncio.gather(_free(node, record, hold), withdrawal, return_exceptions=True)
    for outcome in (addresses, endpoint):
        if isinstance(outcome, BaseException):
            raise outcome
    return addresses if isinstance(addresses, tuple) else ()


async def _free(node: Node, record: Record, hold: Hold) -> tuple[Address, ...]:
    if record.delegated is not None:
        if not record.delegated.needs_link:
            await _delete_below(record, record.delegated)
        return record.addresses
    # A record without addresses is of an ADD that never came to know them, or of one that this node never saw.
    if not record.held or hold.uncertain:
        return tuple(one.address for one in await node.allocator.release_handle(record.attachment.handle, hold))
    await node.allocator.release([one.held() for one in record.held])
    return record.addresses


async def _nothing() -> None:
    """What has no endpoint."""


def _unrecorded(attachment: Attachment, below: Delegated | None) -> Record:
    return Record(
        network=attachment.network,
        container_id=attachment.container_id,
        interface=attachment.interface,
        host_interface=host_interface(attachment.network, attachment.container_id, attachment.interface),
        delegated=below,
    )
