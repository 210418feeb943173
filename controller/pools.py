"""How full each pool is, written into its status: for people and their alarms; nothing is decided by it."""

import logging

import msgspec

from controller.view import View
from datastore.errors import Conflict, NotFound, StoreError, Unknown
from datastore.resources.ippool import IPPool, IPPoolStatus
from datastore.store import Store
from ipam.usage import usage

log = logging.getLogger(__name__)


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
    changes = {field: getattr(counted, field) for field in ("capacity", "used", "free", "blocks")}
    return msgspec.structs.replace(pool, status=msgspec.structs.replace(pool.status, **changes))
