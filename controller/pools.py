"""How full each pool is and whether it gives addresses, in its status: for people; nothing is decided by it."""

import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import msgspec

from controller.view import View
from datastore.errors import Conflict, NotFound, StoreError, Unknown
from datastore.resources.condition import Condition
from datastore.resources.ippool import IPPool, IPPoolStatus
from datastore.resources.selector_parser import parse
from datastore.store import Store
from ipam.usage import usage

log = logging.getLogger(__name__)

READY = "Ready"
"""The condition: addresses are given from the pool."""
EFFECTIVE = "Effective"
"""The condition: what the pool asks for has an effect."""


async def tell_usage(store: Store, view: View) -> int:
    """Write the status of every pool that has another; gives how many. Who changed a pool meanwhile is let be."""
    if view.counted:
        return 0
    view.counted = True
    statuses = usage(view.pools.values(), view.blocks.values(), view.reservations.values())
    written = 0
    for name, status in statuses.items():
        pool = view.pools[name]
        wanted = _with(pool, status, view.node_labels.values())
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


def condition(pool: IPPool, kind: str) -> Condition | None:
    """A pool's condition of a type."""
    return next((one for one in pool.status.conditions if one.type == kind), None)


def _with(pool: IPPool, counted: IPPoolStatus, node_labels: Collection[Mapping[str, str]]) -> IPPool:
    """The pool with what was counted; what the store itself keeps in a status stays."""
    changes = {field: getattr(counted, field) for field in ("capacity", "used", "free", "blocks", "conflicts_with")}
    others = tuple(one for one in pool.status.conditions if one.type not in (READY, EFFECTIVE))
    generation = pool.metadata.generation
    judged = tuple(
        _since(condition(pool, one.type), msgspec.structs.replace(one, observed_generation=generation))
        for one in (_ready(pool, counted), _effective(pool, node_labels))
    )
    status = msgspec.structs.replace(
        pool.status, **changes, conditions=(*others, *judged), observed_generation=generation
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


def _effective(pool: IPPool, node_labels: Collection[Mapping[str, str]]) -> Condition:
    """Whether all that the pool asks for is done, of what admission can't judge by the pool alone."""
    spec = pool.spec
    without = [
        *(name for name, mode in (("ipipMode", spec.ipip_mode), ("vxlanMode", spec.vxlan_mode)) if mode != "Never"),
        *(["disableBGPExport"] if spec.disable_bgp_export else []),
        *(["allowedUses: LoadBalancer"] if "LoadBalancer" in spec.allowed_uses else []),
    ]
    if without:
        why = f"{', '.join(without)}: leave out what has no effect on packets yet, which are routed directly"
        return Condition(type=EFFECTIVE, status="False", reason="UnsupportedField", message=why)
    if node_labels and not any(map(parse(spec.node_selector).matches, node_labels)):
        why = f"no node's labels match {spec.node_selector}: compare kubectl get nodes.tortie.dev --show-labels"
        return Condition(type=EFFECTIVE, status="False", reason="SelectsNoNodes", message=why)
    return Condition(type=EFFECTIVE, status="True", reason="AsSpecified", message="all that it asks for is done")


def _since(known: Condition | None, now: Condition) -> Condition:
    if known is not None and known.status == now.status and known.last_transition_time:
        return msgspec.structs.replace(now, last_transition_time=known.last_transition_time)
    return msgspec.structs.replace(now, last_transition_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
