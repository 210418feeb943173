"""How full each pool is and whether it gives addresses, in its status: for people; nothing is decided by it."""

import logging
from datetime import UTC, datetime

import msgspec

from controller.view import View
from datastore.errors import Conflict, NotFound, StoreError, Unknown
from datastore.resources.condition import Condition
from datastore.resources.ippool import IPPool, IPPoolStatus
from datastore.store import Store
from ipam.usage import usage

log = logging.getLogger(__name__)

READY = "Ready"
"""The condition: addresses are given from the pool."""


async def tell_usage(store: Store, view: View) -> int:
    """Write the status of every pool that has another; gives how many. Who changed a pool meanwhile is let be."""
    if view.counted:
        return 0
    view.counted = True
    statuses = usage(view.pools.values(), view.blocks.values(), view.reservations.values())
    written = 0
    for name, status in statuses.items():
        pool = view.pools[name]
        wanted = _with(pool, status)
        if wanted.status == pool.status:
            continue
        try:
            view.pools[name] = await store.update(wanted)
            written += 1
        except (Conflict, NotFound, Unknown):
            view.counted = False  # the watch tells how it is now, and the next count tells that
        except StoreError as error:
            view.counted = False
            log.warning("the status of pool %s can't be written: %s", name, error)
    return written


def _with(pool: IPPool, counted: IPPoolStatus) -> IPPool:
    """The pool with what was counted; what the store itself keeps in a status stays."""
    changes = {field: getattr(counted, field) for field in ("capacity", "used", "free", "blocks", "conflicts_with")}
    others = tuple(one for one in pool.status.conditions if one.type != READY)
    known = next((one for one in pool.status.conditions if one.type == READY), None)
    generation = pool.metadata.generation
    ready = msgspec.structs.replace(_ready(pool, counted), observed_generation=generation)
    status = msgspec.structs.replace(
        pool.status, **changes, conditions=(*others, _since(known, ready)), observed_generation=generation
    )
    return msgspec.structs.replace(pool, status=status)


def _ready(pool: IPPool, counted: IPPoolStatus) -> Condition:
    """Whether addresses are given from a pool, and what to do where they aren't."""
    if counted.conflicts_with:
        why = f"its addresses are also pool {counted.conflicts_with}'s, which has them: delete one of the two"
        return Condition(type=READY, status="False", reason="Overlaps", message=why)
    if pool.spec.disabled:
        why = "spec.disabled is true: no new addresses are given, those given stay"
        return Condition(type=READY, status="False", reason="Disabled", message=why)
    if not counted.free:
        why = "every address is owned or reserved: make another pool, or see tortiectl ipam show"
        return Condition(type=READY, status="False", reason="Exhausted", message=why)
    return Condition(type=READY, status="True", reason="AddressesLeft", message="addresses are given from it")


def _since(known: Condition | None, now: Condition) -> Condition:
    if known is not None and known.status == now.status and known.last_transition_time:
        return msgspec.structs.replace(now, last_transition_time=known.last_transition_time)
    return msgspec.structs.replace(now, last_transition_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
