"""Freezing every block of a datastore, and thawing them, each by compare-and-swap and beside whoever else writes them.

A frozen block never changes again until it is thawed: every program that writes blocks looks for it, and a write that
was decided before loses its compare-and-swap. Blocks that are claimed meanwhile are either seen here, or their
claimer sees the mark in the ClusterConfiguration, which is set before (`ipam.claim`).
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from datastore.errors import Conflict, NotFound
from datastore.resources.ipblock import IPBlock
from datastore.store import Store
from datastore.transfer import settled
from datastore.transfer.errors import Disturbed
from datastore.transfer.settled import Pause

_TRIES = 1000
"""A busy block changes with each commit of its node, so the freeze may lose some of them."""


async def freeze(store: Store, by: str, pause: Pause = asyncio.sleep) -> int:
    """Return once every block that there is carries the migration's id; gives how many were frozen now.

    Raises:
        Disturbed: a block changes without end.
        StoreError: the store can't be used.
    """
    frozen = 0
    while todo := [block for block in (await store.list(IPBlock)).items if block.spec.frozen != by]:
        await settled.several(partial(_set, store, one, by, lambda now: now == by, pause) for one in todo)
        frozen += len(todo)
    return frozen


async def thaw(store: Store, which: Callable[[str], bool], pause: Pause = asyncio.sleep) -> int:
    """Thaw every block whose migration is one of `which`; gives how many.

    Raises:
        Disturbed: a block changes without end.
        StoreError: the store can't be used.
    """
    todo = [block for block in (await store.list(IPBlock)).items if block.spec.frozen and which(block.spec.frozen)]
    await settled.several(partial(_set, store, one, "", lambda now: not (now and which(now)), pause) for one in todo)
    return len(todo)


async def _set(store: Store, block: IPBlock, to: str, done: Callable[[str], bool], pause: Pause) -> None:
    for _ in range(_TRIES):
        if done(block.spec.frozen):
            return
        try:
            spec = msgspec.structs.replace(block.spec, frozen=to)
            await settled.update(store, msgspec.structs.replace(block, spec=spec), pause)
            return
        except Conflict:
            pass
        except NotFound:
            return
        try:
            block = await store.get(IPBlock, block.name)
        except NotFound:
            return
    raise Disturbed(f"{block.key} changes all the time", "try again")
