"""Blocks of a node's name that another machine had before: a node that was re-imaged, or replaced.

A name changes its machine in one way only: its Node is deleted, and the new machine creates it again. The new one makes
the blocks its own by writing its identity into them. From then on the old machine, should it still run, can assign
nothing there: its compare-and-swaps fail, and it finds that the blocks aren't its any more. What its pods had stays
theirs until nobody knows them any more (`ipam.reclaim_own`).

    ready           becomes this machine's, with everything that is in it
    not ready       is empty: deleted
    frozen          stays, until the migration is over
"""

import msgspec

from datastore.errors import Conflict, NotFound, Unknown
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node
from datastore.store import Store, Where

_TRIES = 12


async def take_over(store: Store, node: str, machine: str) -> tuple[str, ...]:
    """Make every block of `node` this machine's, if the name is; gives what was done, in words.

    Raises:
        StoreError: the store can't be used; again goes on.
    """
    done: list[str] = []
    for found in (await store.list(IPBlock, Where("node", node))).items:
        block: IPBlock | None = found
        for _ in range(_TRIES):
            if block is None or not _is_to_change(block, node, machine):
                break
            if not await _is_ours(store, node, machine):
                return tuple(done)
            try:
                done.append(await _change(store, block, machine))
                break
            except (Conflict, NotFound, Unknown):
                block = await _again(store, block.name)
    return tuple(done)


def _is_to_change(block: IPBlock, node: str, machine: str) -> bool:
    return block.spec.node == node and block.spec.machine != machine and not block.spec.frozen


async def _is_ours(store: Store, node: str, machine: str) -> bool:
    try:
        return (await store.get(Node, node)).spec.machine == machine
    except NotFound:
        return False


async def _change(store: Store, block: IPBlock, machine: str) -> str:
    before = block.spec.machine
    if not block.spec.ready:
        await store.delete(block)
        return f"deleted block {block.spec.cidr}, which machine {before} never made ready"
    spec = msgspec.structs.replace(block.spec, machine=machine)
    await store.update(msgspec.structs.replace(block, spec=spec))
    return f"took over block {block.spec.cidr} from machine {before}"


async def _again(store: Store, name: str) -> IPBlock | None:
    try:
        return await store.get(IPBlock, name)
    except NotFound:
        return None
