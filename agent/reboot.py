"""What a reboot took: attachments whose interfaces are gone, and no DEL need come for them. They are removed as by DEL.

    STATE/boot-id    the boot that this state is of: written when everything else is done, so that an agent that dies
                     meanwhile begins again

Runtimes forget their pods when a machine dies (k8s#57280: networks ran out of addresses after reboots). Records aren't
synced to disk, addresses are: so what the store says is this node's and no record names is freed, too. Within one boot
nothing of this is done: a link that is gone was removed by somebody, and its pod's DEL will come.
"""

import logging
import os
from pathlib import Path

from agent import files
from cni.config import Attachment
from cni.detach import remove
from cni.node import Node
from cni.records import Record
from ipam.errors import HandleBusy, IpamError
from ipam.handles import is_attachments
from kernel import netns, sysctl
from kernel.errors import KernelError, NotANamespace
from kernel.links import host_interface

log = logging.getLogger(__name__)


async def free_what_a_reboot_took(node: Node, state: Path) -> int:
    """Remove attachments of an earlier boot if this is another; gives how many there were.

    Raises:
        StoreError: the store can't be read; try again.
    """
    now, before = _boot_id(), _noted(state)
    if now == before:
        return 0
    gone, left = 0, 0
    for attachment in await _known(node) if before else ():
        try:
            gone += await _remove_if_gone(node, attachment)
        except (HandleBusy, IpamError, KernelError, OSError) as error:
            left += 1
            log.warning("%s, of an earlier boot, stays for now: %s", attachment.handle, error)
    if gone:
        log.info("this machine has booted: removed %d attachments that are gone", gone)
    if not left:
        _note(state, now)
    return gone


async def _known(node: Node) -> list[Attachment]:
    """Every attachment that files or the store name."""
    handles = {record.attachment.handle for record in node.records.all()}
    handles |= await node.allocator.handles()
    handles |= set(node.handles.abandoned())
    return [Attachment(*handle.split(":")) for handle in sorted(handles) if is_attachments(handle)]


async def _remove_if_gone(node: Node, attachment: Attachment) -> bool:
    async with node.handles.hold(attachment.handle, wait_s=0) as hold:
        if _is_there(node, attachment, node.records.read(attachment)):
            return False
        await remove(node, attachment, hold)
        return True


def _is_there(node: Node, attachment: Attachment, record: Record | None) -> bool:
    """Whether an attachment was made in this boot, by `python -m cni` before the agent came."""
    if record is not None and record.on_link:
        return _is_namespace(record.netns)
    name = host_interface(attachment.network, attachment.container_id, attachment.interface)
    return node.links.find(name) is not None


def _is_namespace(path: str) -> bool:
    try:
        os.close(netns.open_namespace(path))
    except (NotANamespace, OSError):
        return False
    return True


def _boot_id() -> str:
    return os.environ.get("TORTIE_BOOT_ID") or sysctl.read("kernel/random/boot_id")


def _noted(state: Path) -> str:
    try:
        return (state / "boot-id").read_text().strip()
    except OSError:
        return ""


def _note(state: Path, boot_id: str) -> None:
    try:
        files.put(state / "boot-id", f"{boot_id}\n".encode(), 0o600)
    except OSError as error:
        log.warning("the boot can't be noted; a reboot before the next start won't be noticed: %s", error)
