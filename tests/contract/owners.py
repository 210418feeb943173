"""Who owns an address, changed in the datastore behind the plugin's back: what lost updates and restored backups do."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

import msgspec

from datastore.errors import Conflict
from datastore.resources.ipblock import Allocation, IPBlock, IPBlockSpec
from datastore.store import Store
from tests.contract.ways import Way

Change = Callable[[IPBlockSpec], IPBlockSpec | None]
"""A block's new content; None where there is nothing to change."""


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of addresses in one way's datastore."""

    way: Way

    def disown(self, handle: str) -> None:
        """Free a handle's addresses."""
        self._change(lambda spec: _without(spec, handle))

    def hand_over(self, handle: str, to: str) -> None:
        """Make a handle's addresses another's, by allocations of their own."""

        def change(spec: IPBlockSpec) -> IPBlockSpec | None:
            given = {
                ordinal: msgspec.structs.replace(one, handle=to, id=f"{int(ordinal):016x}")
                for ordinal, one in spec.allocations.items()
                if one.handle == handle
            }
            kept = {**spec.allocations, **given}
            return msgspec.structs.replace(spec, allocations=kept) if given else None

        self._change(change)

    def plant(self, handle: str, node: str = "node-1") -> None:
        """Give a handle an address of each block that there is."""

        def change(spec: IPBlockSpec) -> IPBlockSpec | None:
            if not spec.ready:
                return None
            unused = spec.fresh < ip_network(spec.cidr).num_addresses
            ordinal = spec.fresh if unused else spec.released[0][0]
            return msgspec.structs.replace(
                spec,
                allocations={
                    **spec.allocations,
                    str(ordinal): Allocation(handle=handle, id=f"{ordinal:016x}", node=node, since=time.time()),
                },
                released=tuple(one for one in spec.released if one[0] != ordinal),
                fresh=spec.fresh + unused,
            )

        self._change(change)

    def _change(self, change: Change) -> None:
        async def work(store: Store) -> int:
            changed = 0
            for block in (await store.list(IPBlock)).items:
                changed += await _changed(store, block, change)
            return changed

        assert self.way.stored(work), "no block had anything to change"


async def _changed(store: Store, block: IPBlock, change: Change) -> int:
    while True:
        spec = change(block.spec)
        if spec is None:
            return 0
        try:
            await store.update(msgspec.structs.replace(block, spec=spec))
            return 1
        except Conflict:
            block = await store.get(IPBlock, block.name)


def _without(spec: IPBlockSpec, handle: str) -> IPBlockSpec | None:
    freed = [ordinal for ordinal, one in spec.allocations.items() if one.handle == handle]
    if not freed:
        return None
    kept = {ordinal: one for ordinal, one in spec.allocations.items() if ordinal not in freed}
    released = (*spec.released, *((int(ordinal), time.time()) for ordinal in freed))
    return msgspec.structs.replace(spec, allocations=kept, released=released)
