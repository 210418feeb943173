"""What a node does now and then: removals that are still owed, tombstones, blocks to give back."""

import asyncio
import logging

from agent.identity import NodeObject
from cni.detach import replay
from cni.node import Node
from cni.tombstones import Tombstones
from datastore.errors import StoreError
from ipam.errors import IpamError
from kernel.errors import KernelError

log = logging.getLogger(__name__)

_OWED_EVERY_S = 5.0
_GIVE_BACK_EVERY_S = 60.0


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
    except KernelError as error:
        log.warning("removals wait: %s", error)


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
