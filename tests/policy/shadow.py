"""What a kernel holds that is told of nothing but `Changes`, step by step in the order that they ask for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kernel.sets import Member, SetName, SetSpec
from kernel.tables import Chain, ChainName, Rule, Table, TableName
from kernel.walk import Packet, Stages, Walk, walk
from policy.desired import Changes, Desired, TableKey


@dataclass
class ShadowSet:
    """A set in the kernel."""

    spec: SetSpec
    members: set[Member]


@dataclass
class Shadow:
    """Sets, chains and hooks of both families."""

    sets: dict[SetName, ShadowSet] = field(default_factory=dict)
    chains: dict[TableKey, dict[ChainName, Chain]] = field(default_factory=dict)
    hooks: dict[TableKey, dict[str, tuple[Rule, ...]]] = field(default_factory=dict)

    def steps(self, changes: Changes, desired: Desired) -> Iterator[str]:
        """Apply changes, member by member and table by table; stops after each with a word on what was done."""
        for name in changes.new_sets:
            assert name not in self.sets
            self.sets[name] = ShadowSet(desired.sets[name].spec, set(desired.sets[name].members))
            yield f"create {name}"
        for name, added in changes.added.items():
            assert not added & self.sets[name].members
            for member in sorted(added):
                self.sets[name].members.add(member)
                yield f"add {name} {member}"
        for key in sorted(changes.chains.keys() | changes.hooks.keys(), key=_table_order):
            self._restore(key, changes, desired.tables[key])
            yield f"restore {key}"
        for name, removed in changes.removed.items():
            assert removed <= self.sets[name].members
            for member in sorted(removed):
                self.sets[name].members.remove(member)
                yield f"del {name} {member}"
        for name in changes.gone_sets:
            del self.sets[name]
            yield f"destroy {name}"

    def _restore(self, key: TableKey, changes: Changes, table: Table) -> None:
        chains = self.chains.setdefault(key, {})
        for name in changes.chains.get(key, ()):
            chains.pop(name, None)
            if name in table.chains:
                chains[name] = table.chains[name]
        for hook in changes.hooks.get(key, ()):
            self.hooks.setdefault(key, {})[hook] = table.hooks[hook]

    def send(self, stages: Stages, packet: Packet) -> Walk:
        """Send a packet through what is there now."""
        tables: Mapping[TableName, Table] = {
            key[1]: Table(chains, self.hooks.get(key, {}))
            for key, chains in self.chains.items()
            if key[0].value == packet.source.version
        }
        return walk(tables, self.sets, stages, packet)

    def agrees_with(self, desired: Desired) -> bool:
        """Whether it holds exactly what is desired."""
        return (
            {name: one.members for name, one in self.sets.items()}
            == {name: set(one.members) for name, one in desired.sets.items()}
            and self.chains == {key: dict(table.chains) for key, table in desired.tables.items()}
            and self.hooks == {key: dict(table.hooks) for key, table in desired.tables.items()}
        )


def _table_order(key: TableKey) -> tuple[int, int]:
    return key[0].value, list(TableName).index(key[1])
