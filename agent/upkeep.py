"""What a node does now and then: removals still owed, tombstones, blocks to give back, idle groups to forget."""

import asyncio
import logging
import time
from collections.abc import Callable

from agent.dataplane import Dataplane
from agent.identity import NodeObject
from cni.config import Attachment
from cni.detach import remove, replay
from cni.node import Node
from cni.records import Record
from cni.tombstones import Tombstones
from datastore.errors import StoreError
from ipam.errors import HandleBusy, IpamError
from ipam.handles import is_attachments
from kernel.errors import KernelError
from policy.compiler import Compiler

log = logging.getLogger(__name__)

_OWED_EVERY_S = 5.0
_GIVE_BACK_EVERY_S = 60.0
_LOST_EVERY_S = 60.0
LOST_S = 600.0
"""How long an attachment without its link waits for its DEL; kubelets send theirs within minutes. The agent takes twice
the grace of reclaim, which is this unless somebody has set another: runtimes are to come first."""
_PORTION_S = 5.0
FORGET_EVERY_S = 60.0
"""A job that runs every minute finds its rules; what is kept meanwhile is a few chains that nobody meets."""


async def pay_what_is_owed(node: Node, tombstones: Tombstones) -> None:
    """Replay the journal and the tombstones, without end; most of the time there is nothing."""
    while True:
        await pay_once(node, tombstones)
        await asyncio.sleep(_OWED_EVERY_S)


async def pay_once(node: Node, tombstones: Tombstones) -> None:
    """Replay the journal and the tombstones once."""
    try:
        await replay(node)
        await tombstones.replay(node)
    except (KernelError, OSError) as error:
        log.warning("removals wait: %s", error)


async def undo_until_done(node: Node) -> None:
    """Undo what an earlier process's ADDs left half-done and others were busy with at start, then end."""
    left = await undo_incomplete(node)
    while left:
        await asyncio.sleep(_OWED_EVERY_S)
        left = await undo_incomplete(node)


async def undo_incomplete(node: Node) -> int:
    """Undo ADDs that died half-way: those whose handle nobody holds, and that are incomplete still once it is ours.

    Gives how many could not be undone. It reads every record, so it is for the start.
    """
    left = 0
    for record in [record for record in node.records.all() if not record.complete]:
        try:
            async with node.handles.hold(record.attachment.handle, wait_s=0) as hold:
                now = node.records.read(record.attachment)
                if now is None or now.complete:
                    continue
                log.info("undoing the ADD of %s/%s, which died half-way", now.namespace, now.pod)
                await remove(node, record.attachment, hold)
        except HandleBusy:
            left += 1  # it is under way
        except (IpamError, KernelError, OSError) as error:
            left += 1
            log.warning("the ADD of %s isn't undone yet: %s", record.attachment.handle, error)
    return left


async def undo_abandoned(node: Node) -> None:
    """Undo what attachments without a record may have in the store: their ADD or DEL died with a write in flight."""
    for path, lock in node.records.half_written():
        if not node.handles.is_held(lock):  # who writes a record holds its handle
            path.unlink(missing_ok=True)
    for handle in node.handles.abandoned():
        parts = handle.split(":")
        if not is_attachments(handle) or node.records.has_handle(handle):
            continue  # by hand: whoever asks again gets what was given; with a record: that record's DEL looks
        try:
            async with node.handles.hold(handle, wait_s=0) as hold:
                if not node.records.has_handle(handle):
                    log.info("undoing what %s may have left", handle)
                    await remove(node, Attachment(*parts), hold)
        except (IpamError, KernelError) as error:
            log.warning("what %s may have left isn't undone: %s", handle, error)


async def free_lost(
    node: Node,
    grace_s: Callable[[], float] = lambda: LOST_S,
    every_s: float = _LOST_EVERY_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Remove attachments whose link has long been gone and whose DEL doesn't come, without end.

    A runtime gives up on a pod when a plugin behind ours fails its DEL for good: ours isn't called then.
    """
    gone_since: dict[str, float] = {}
    while True:
        await pause(lambda: min(every_s, grace_s() / 3))
        lost = {record.attachment: record for record in node.records.all() if _is_lost(node, record)}
        handles = {attachment.handle for attachment in lost}
        gone_since = {handle: since for handle, since in gone_since.items() if handle in handles}
        for attachment in lost:
            if clock() - gone_since.setdefault(attachment.handle, clock()) < grace_s():
                continue
            log.warning("%s is removed: its link has gone, and no DEL came", attachment.handle)
            try:
                async with node.handles.hold(attachment.handle, wait_s=0) as hold:
                    await remove(node, attachment, hold)
            except (IpamError, KernelError, OSError) as error:
                log.warning("%s isn't removed yet: %s", attachment.handle, error)


async def pause(seconds: Callable[[], float]) -> None:
    """Wait so long, in portions: how long may become less meanwhile."""
    began = time.monotonic()
    while (left := began + seconds() - time.monotonic()) > 0:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(min(left, _PORTION_S))


def _is_lost(node: Node, record: Record) -> bool:
    return record.complete and not record.on_link and node.links.find(record.host_interface) is None


async def give_back(node: Node, node_object: NodeObject) -> None:
    """Give long empty blocks back, without end."""
    while True:
        await asyncio.sleep(_GIVE_BACK_EVERY_S)
        try:
            given = await node.allocator.give_back(node_object.write)
        except (StoreError, IpamError) as error:
            log.warning("blocks can't be given back now: %s", error)
            continue
        if given:
            log.info("gave back %d empty blocks", given)


async def forget_idle_groups(compiler: Compiler, dataplane: Dataplane, every_s: float = FORGET_EVERY_S) -> None:
    """Drop the chains and sets of groups that have had no pod for a while, without end."""
    while True:
        await asyncio.sleep(every_s)
        compiler.forget_idle_groups()
        try:
            await dataplane.settled()
        except KernelError as error:
            log.warning("idle groups stay until the next refresh: %s", error)
