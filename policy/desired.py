"""What the kernel should hold, kept live, and what of it was touched.

`Desired` is written by the compiler only. Members are counted, since two pods may hold one address while it changes
hands, and a member must stay until the last of them has gone.

`Changes` are net: what was touched and is as it was isn't told. For that the first touch of a thing remembers how it
was, and `take_changes` compares; so both cost what was touched, never what there is.
"""

from collections.abc import Iterable, KeysView, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from kernel.sets import Member, SetName, SetSpec
from kernel.tables import Chain, ChainName, Family, Rule, Table, TableName
from policy import names

TableKey = tuple[Family, TableName]
K = TypeVar("K")
V = TypeVar("V")
LAST = frozenset(names.local(family) for family in Family)
"""Sets whose members are added after all others and removed before them: without them a pod can't send."""


class DesiredSet:
    """A set that must exist, and its members."""

    __slots__ = ("counts", "spec")

    def __init__(self, spec: SetSpec) -> None:
        self.spec = spec
        self.counts: dict[Member, int] = {}
        """How often each member is wanted; never 0."""

    @property
    def members(self) -> KeysView[Member]:
        """The members, live."""
        return self.counts.keys()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DesiredSet) and (self.spec, self.counts) == (other.spec, other.counts)

    def __repr__(self) -> str:
        return f"DesiredSet({self.spec.name}: {', '.join(sorted(self.members))})"


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be done, in the order of the fields; each part is in an order of its own that matters, see `LAST`.

    After `chains` and `hooks` wait 10 ms before taking members away: a packet that is between two rules of the
    dispatch would otherwise find itself in neither group (tried: 283 of 40,000 were lost).
    """

    new_sets: tuple[SetName, ...] = ()
    """To be made with the members that `Desired.sets` has for them now."""
    added: Mapping[SetName, frozenset[Member]] = field(default_factory=dict)
    """Members to add to sets that are there."""
    chains: Mapping[TableKey, frozenset[ChainName]] = field(default_factory=dict)
    """Chains to write as `Desired.tables` has them, or to delete where it hasn't."""
    hooks: Mapping[TableKey, frozenset[str]] = field(default_factory=dict)
    """Built-in chains whose rules of ours have changed."""
    removed: Mapping[SetName, frozenset[Member]] = field(default_factory=dict)
    """Members to remove from sets that stay."""
    gone_sets: tuple[SetName, ...] = ()
    """To be destroyed; no rule looks at them any more."""

    def __bool__(self) -> bool:
        return any((self.new_sets, self.added, self.chains, self.hooks, self.removed, self.gone_sets))


class Desired:
    """Sets and tables as they should be."""

    def __init__(self) -> None:
        self._sets: dict[SetName, DesiredSet] = {}
        self._chains: dict[TableKey, dict[ChainName, Chain]] = {}
        self._hooks: dict[TableKey, dict[str, tuple[Rule, ...]]] = {}
        self._tables: dict[TableKey, Table] = {}
        self._sets_before: dict[SetName, DesiredSet | None] = {}
        """Sets made or dropped since the last take: what was there before."""
        self._members_before: dict[SetName, dict[Member, bool]] = {}
        """Members touched, in sets that were there: whether the member was."""
        self._chains_before: dict[TableKey, dict[ChainName, Chain | None]] = {}
        self._hooks_before: dict[TableKey, dict[str, tuple[Rule, ...] | None]] = {}

    @property
    def sets(self) -> Mapping[SetName, DesiredSet]:
        """Every set by name, live."""
        return self._sets

    @property
    def tables(self) -> Mapping[TableKey, Table]:
        """Every table by family and name, live: its mappings change with the next update."""
        return self._tables

    def make_set(self, spec: SetSpec) -> None:
        """Want a set that isn't there, empty."""
        self._sets_before.setdefault(spec.name, None)
        self._sets[spec.name] = DesiredSet(spec)

    def drop_set(self, name: SetName) -> None:
        """Want a set no more."""
        dropped = self._sets.pop(name)
        touched = self._members_before.pop(name, {})
        if name not in self._sets_before:
            for member, was in touched.items():
                if was:
                    dropped.counts[member] = 1
                else:
                    dropped.counts.pop(member, None)
            self._sets_before[name] = dropped

    def add(self, name: SetName, member: Member, times: int = 1) -> None:
        """Want a member, once more than before."""
        counts = self._sets[name].counts
        count = counts.get(member, 0)
        if not count:
            self._touch(name, member, False)
        counts[member] = count + times

    def discard(self, name: SetName, member: Member, times: int = 1) -> None:
        """Want a member once less; it goes with the last."""
        counts = self._sets[name].counts
        if counts[member] == times:
            self._touch(name, member, True)
            del counts[member]
        else:
            counts[member] -= times

    def put_chain(self, key: TableKey, chain: Chain) -> None:
        """Want a chain with these rules."""
        chains = self._table(key)
        self._chains_before.setdefault(key, {}).setdefault(chain.name, chains.get(chain.name))
        chains[chain.name] = chain

    def drop_chain(self, key: TableKey, name: ChainName) -> None:
        """Want a chain no more."""
        dropped = self._table(key).pop(name)
        self._chains_before.setdefault(key, {}).setdefault(name, dropped)

    def put_hook(self, key: TableKey, hook: str, rules: tuple[Rule, ...]) -> None:
        """Want these rules at the head of a built-in chain."""
        self._table(key)
        hooks = self._hooks[key]
        self._hooks_before.setdefault(key, {}).setdefault(hook, hooks.get(hook))
        hooks[hook] = rules

    def drop_hook(self, key: TableKey, hook: str) -> None:
        """Want nothing of ours in a built-in chain any more."""
        dropped = self._hooks[key].pop(hook)
        self._hooks_before.setdefault(key, {}).setdefault(hook, dropped)

    def drop_table(self, key: TableKey) -> None:
        """Want nothing of ours in a table any more."""
        for hook in tuple(self._hooks[key]):
            self.drop_hook(key, hook)
        for name in tuple(self._chains[key]):
            self.drop_chain(key, name)
        del self._tables[key], self._hooks[key], self._chains[key]

    def take_changes(self) -> Changes:
        """What differs from the last call."""
        present = self._sets_before.keys() & self._sets.keys()
        new = [name for name in present if self._sets_before[name] is None]
        gone = [name for name, before in self._sets_before.items() if before is not None and name not in present]
        added, removed = self._changed_members()
        changes = Changes(
            _ordered(new, last=True),
            {name: added[name] for name in _ordered(added, last=True)},
            _differing(self._chains_before, self._chains),
            _differing(self._hooks_before, self._hooks),
            {name: removed[name] for name in _ordered(removed, last=False)},
            _ordered(gone, last=False),
        )
        for touched in (self._sets_before, self._members_before, self._chains_before, self._hooks_before):
            touched.clear()
        return changes

    def _changed_members(self) -> tuple[dict[SetName, frozenset[Member]], dict[SetName, frozenset[Member]]]:
        """Members that came to and that went from sets that were there and still are."""
        came: dict[SetName, frozenset[Member]] = {}
        went: dict[SetName, frozenset[Member]] = {}
        for name, before in self._sets_before.items():
            if before is not None and name in self._sets:
                now = self._sets[name].members
                came[name], went[name] = frozenset(now - before.members), frozenset(before.members - now)
        for name, touched in self._members_before.items():
            now = self._sets[name].members
            came[name] = frozenset(member for member, was in touched.items() if not was and member in now)
            went[name] = frozenset(member for member, was in touched.items() if was and member not in now)
        return {name: some for name, some in came.items() if some}, {name: some for name, some in went.items() if some}

    def _touch(self, name: SetName, member: Member, was: bool) -> None:
        if name not in self._sets_before:
            self._members_before.setdefault(name, {}).setdefault(member, was)

    def _table(self, key: TableKey) -> dict[ChainName, Chain]:
        if key not in self._tables:
            chains, hooks = self._chains.setdefault(key, {}), self._hooks.setdefault(key, {})
            self._tables[key] = Table(chains, hooks)
        return self._chains[key]


def _ordered(sets: Iterable[SetName], *, last: bool) -> tuple[SetName, ...]:
    """By name, those of `LAST` at one end."""
    return tuple(sorted(sets, key=lambda name: ((name in LAST) is last, name)))


def _differing(
    before: Mapping[TableKey, Mapping[K, V | None]], now: Mapping[TableKey, Mapping[K, V]]
) -> dict[TableKey, frozenset[K]]:
    """What isn't now as it was before; None is what wasn't there."""
    nothing: Mapping[K, V] = {}
    found = {
        key: frozenset(name for name, was in old.items() if now.get(key, nothing).get(name) != was)
        for key, old in before.items()
    }
    return {key: changed for key, changed in found.items() if changed}
