"""natOutgoing: pods of pools that say so leave all pools with their node's address.

    tt4-nat      the networks of pools with natOutgoing
    tt4-pools    the networks of all pools, disabled ones too: their pods live on, and are pods to others

A family without any pool with natOutgoing has neither sets nor rules, and its nat table isn't touched.
"""

from dataclasses import dataclass

from kernel import sets
from kernel.sets import SetSpec, SetType
from kernel.tables import Family, TableName
from policy import frame, names
from policy.desired import Desired
from policy.model import Network
from policy.settings import Settings


@dataclass(frozen=True, slots=True)
class _Pool:
    network: Network
    nat: bool

    @property
    def family(self) -> Family:
        return sets.family_of(self.network)


class Outgoing:
    """The sets and rules of both families."""

    def __init__(self, desired: Desired, settings: Settings) -> None:
        self._desired = desired
        self._settings = settings
        self._pools: dict[str, _Pool] = {}
        self._active: set[Family] = set()

    def set_pool(self, name: str, network: Network, *, nat: bool) -> None:
        """There is a pool."""
        pool = _Pool(network, nat)
        if self._pools.get(name) != pool:
            self._change(name, pool)

    def remove_pool(self, name: str) -> None:
        """A pool is gone."""
        if name in self._pools:
            self._change(name, None)

    def _change(self, name: str, pool: _Pool | None) -> None:
        before = self._pools.pop(name, None)
        if pool is not None:
            self._pools[name] = pool
        for changed, more in ((pool, True), (before, False)):
            if changed is not None and changed.family in self._active:
                self._count(changed, more=more)
        for family in {one.family for one in (before, pool) if one is not None}:
            self._settle(family)

    def _settle(self, family: Family) -> None:
        needed = any(pool.nat for pool in self._pools.values() if pool.family is family)
        if needed and family not in self._active:
            self._begin(family)
        elif not needed and family in self._active:
            self._end(family)

    def _begin(self, family: Family) -> None:
        self._active.add(family)
        for name in (names.all_pools(family), names.nat_pools(family)):
            self._desired.make_set(SetSpec(name, SetType.NETWORKS, family))
        for pool in self._pools.values():
            if pool.family is family:
                self._count(pool, more=True)
        table, key = frame.table(TableName.NAT, family, self._settings), (family, TableName.NAT)
        for chain in table.chains.values():
            self._desired.put_chain(key, chain)
        for hook, rules in table.hooks.items():
            self._desired.put_hook(key, hook, rules)

    def _end(self, family: Family) -> None:
        self._active.discard(family)
        self._desired.drop_table((family, TableName.NAT))
        for name in (names.nat_pools(family), names.all_pools(family)):
            self._desired.drop_set(name)

    def _count(self, pool: _Pool, *, more: bool) -> None:
        change = self._desired.add if more else self._desired.discard
        change(names.all_pools(pool.family), sets.network(pool.network))
        if pool.nat:
            change(names.nat_pools(pool.family), sets.network(pool.network))
