"""This node's pods' addresses made its own again, when its Node was gone or the store doesn't say what records say.

Where the Node had to be created, at the start or because somebody deleted it, every address is regained: the controller
may have been taking them back (`ipam.regain`). Otherwise only those that the store doesn't say are this node's: because
its name has changed, or the datastore was restored.
"""

import asyncio
import logging

import msgspec

from agent.identity import NodeObject
from cni.attach import texts
from cni.node import Node
from cni.records import Record
from datastore.errors import StoreError
from ipam.block import Held, Owner
from ipam.errors import HandleBusy, IpamError
from ipam.regain import regain

log = logging.getLogger(__name__)

_AGAIN_S = 5.0


async def keep_regaining(node: Node, node_object: NodeObject) -> None:
    """Regain everything each time that the Node had to be created, without end."""
    while True:
        await node_object.created.wait()
        node_object.created.clear()
        left = await regain_all(node, everything=True)
        if left:
            log.warning("%d pods' addresses aren't regained yet, trying again in %g s", left, _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)
            node_object.created.set()


async def regain_all(node: Node, *, everything: bool) -> int:
    """Regain what records name, or what of it the store doesn't say is theirs; gives for how many pods it failed."""
    known = set() if everything else {held for held, _ in node.allocator.allocations()}
    wanted = [record for record in node.records.all() if _has_addresses(record) and not set(_held(record)) <= known]
    outcomes = await asyncio.gather(*(_regain(node, record) for record in wanted))
    return outcomes.count(False)


async def _regain(node: Node, found: Record) -> bool:
    """False where it must be tried again."""
    try:
        async with node.handles.hold(found.attachment.handle) as hold:
            record = node.records.read(found.attachment)
            if record is None or not _has_addresses(record):
                return True  # its DEL came first, or an ADD is making it anew
            owner = Owner(hold.handle, node.name, record.pod, record.namespace, record.uid, record.on_link)
            outcome = await regain(node.allocator, owner, _held(record), hold)
            now = {held.address: held for held in (*outcome.lost, *outcome.held)}
            held = texts(tuple(now[address] for address in record.addresses))
            node.records.write(msgspec.structs.replace(record, held=held))
            hold.settle()
    except HandleBusy:
        return True  # an ADD or DEL is at work on it: it looks for itself
    except (StoreError, IpamError, OSError) as error:
        log.warning("the addresses of %s/%s aren't regained yet: %s", found.namespace, found.pod, error)
        return False
    for one in outcome.lost:
        log.error(
            "pod %s/%s speaks with %s, which isn't its own any more: delete the pod, "
            "or another one will get this address or has it already (`tortiectl ipam list`)",
            *(record.namespace, record.pod, one.address),
        )
    return True


def _has_addresses(record: Record) -> bool:
    """Whether the attachment is there, with addresses of ours."""
    return record.complete and record.delegated is None and bool(record.held)


def _held(record: Record) -> tuple[Held, ...]:
    return tuple(one.held() for one in record.held)
