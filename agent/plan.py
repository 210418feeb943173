"""One change of the kernel's sets and tables, with everything it needs taken out of the live desired state.

The compiler's desired state changes with every event, so a thread that applies it must not look at it: `Plan` holds the
texts and members themselves, in the order in which they are applied.

    new sets, then members added (what lets a pod send comes last)
    chains of raw, mangle, filter, nat: one atomic restore for each table
    jumps to them; then the chains that nobody jumps to any more are removed
    a pause, if anything that left one set came into another (a packet between two dispatch rules must not miss both)
    members removed, sets destroyed
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kernel.delta import Difference, chains_text, difference
from kernel.ipset import FEW, ActualSet, Change
from kernel.iptables import ActualTable
from kernel.sets import Member, SetName, SetSpec
from kernel.tables import Chain, ChainName, Family, Table, TableName
from policy.desired import LAST, Changes, Desired, TableKey

TABLES = (TableName.RAW, TableName.MANGLE, TableName.FILTER, TableName.NAT)
"""In the order of installing; removing goes the other way."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in the order of the fields."""

    new_sets: tuple[SetSpec, ...] = ()
    added: tuple[Change, ...] = ()
    restores: tuple[tuple[Family, str], ...] = ()
    hooks: bool = False
    """Whether rules of ours in the kernel's own chains are to be compared and mended after the chains."""
    removals: tuple[tuple[Family, str], ...] = ()
    """Restores that remove chains; with `hooks` they come after these, for such a chain may have been jumped to."""
    removed: tuple[Change, ...] = ()
    gone_sets: tuple[SetName, ...] = ()
    found: tuple[str, ...] = ()
    """What a comparison found wrong, in words."""

    def __bool__(self) -> bool:
        return bool(self.new_sets or self.added or self.restores or self.hooks or self.removed or self.gone_sets)

    @property
    def few_members(self) -> bool:
        """Whether some members are all there is, so few that they go by netlink within microseconds."""
        few = len(self.added) + len(self.removed) <= FEW
        return few and not (self.new_sets or self.restores or self.hooks or self.gone_sets or self.moves)

    @property
    def moves(self) -> bool:
        """Whether some member goes from one set to another."""
        return not {member for _, member in self.added}.isdisjoint(member for _, member in self.removed)


def of_changes(changes: Changes, desired: Desired) -> Plan:
    """The plan that brings a kernel that was as desired before to what is desired now."""
    new = [(name, frozenset(desired.sets[name].members)) for name in changes.new_sets]
    return Plan(
        new_sets=tuple(desired.sets[name].spec for name in changes.new_sets),
        added=_last_ones_last(_pairs([*new, *changes.added.items()])),
        restores=tuple(_restores(changes, desired, stale=not changes.hooks)),
        hooks=bool(changes.hooks),
        removals=tuple(_removals(changes, desired)) if changes.hooks else (),
        removed=_pairs(changes.removed.items()),
        gone_sets=changes.gone_sets,
    )


def of_difference(
    desired: Desired,
    sets: Mapping[SetName, ActualSet],
    tables: Mapping[TableKey, ActualTable],
    pending: Changes = Changes(),  # noqa: B008  # frozen
) -> Plan:
    """The plan that brings a kernel, as it was just read, to what is desired; `pending` is no surprise."""
    actual = {name: found.members for name, found in sets.items()}
    wanted = {name: frozenset(found.members) for name, found in desired.sets.items()}
    nothing: frozenset[Member] = frozenset()
    new = [name for name in sorted(wanted) if name not in actual]
    gone = [name for name in sorted(actual) if name not in wanted]
    missing = [(name, wanted[name] - actual.get(name, nothing)) for name in sorted(wanted)]
    extra = [(name, actual[name] - wanted[name]) for name in sorted(wanted) if name in actual]
    differing = [
        (family, table, difference(desired.tables.get((family, table), Table()), tables[family, table]))
        for table in TABLES
        for family in Family
    ]
    hooks = any(found.hooks for _, _, found in differing)
    return Plan(
        new_sets=tuple(desired.sets[name].spec for name in new),
        added=_last_ones_last(_pairs(missing)),
        restores=tuple(
            (family, chains_text(table, found.changed, () if hooks else found.stale))
            for family, table, found in differing
            if found.changed or (found.stale and not hooks)
        ),
        hooks=hooks,
        removals=tuple(
            (family, chains_text(table, (), found.stale)) for family, table, found in differing if hooks and found.stale
        ),
        removed=_pairs(extra),
        gone_sets=tuple(gone),
        found=(
            *(f"set {name} was missing" for name in new if name not in pending.new_sets),
            *(
                f"set {name} lacked {len(some)} members"
                for name, some in _without(missing, pending.added)
                if name in actual and name not in pending.new_sets
            ),
            *(f"set {name} had {len(some)} members too many" for name, some in _without(extra, pending.removed)),
            *(f"set {name} was nobody's" for name in gone if name not in pending.gone_sets),
            *(words for family, table, found in differing for words in _words(family, table, found, pending)),
        ),
    )


def _without(
    some: Iterable[tuple[SetName, frozenset[Member]]], pending: Mapping[SetName, frozenset[Member]]
) -> Iterable[tuple[SetName, frozenset[Member]]]:
    for name, members in some:
        left = members - pending.get(name, frozenset())
        if left:
            yield name, left


def _words(family: Family, table: TableName, found: Difference, pending: Changes) -> Iterable[str]:
    where = f"{family.iptables} {table.value}"
    chains = pending.chains.get((family, table), frozenset())
    changed = [chain.name for chain in found.changed if chain.name not in chains]
    yield from (f"chain {name} of {where} was missing or different" for name in changed)
    yield from (f"chain {name} of {where} was nobody's" for name in found.stale if name not in chains)
    if found.hooks and not pending.hooks.get((family, table)):
        yield f"jumps of {where} were missing or different"


def _restores(changes: Changes, desired: Desired, *, stale: bool) -> Iterable[tuple[Family, str]]:
    """Chains as they are to be, and where `stale` those that are to go in the same step."""
    for family, table, changed, gone in _touched(changes, desired):
        if changed or (gone and stale):
            yield family, chains_text(table, changed, gone if stale else ())


def _removals(changes: Changes, desired: Desired) -> Iterable[tuple[Family, str]]:
    for family, table, _, gone in _touched(changes, desired):
        if gone:
            yield family, chains_text(table, (), gone)


def _touched(changes: Changes, desired: Desired) -> Iterable[tuple[Family, TableName, list[Chain], list[ChainName]]]:
    for table in TABLES:
        for family in Family:
            names = changes.chains.get((family, table), frozenset())
            if names:
                chains = desired.tables.get((family, table), Table()).chains
                changed = [chains[name] for name in sorted(names) if name in chains]
                yield family, table, changed, sorted(name for name in names if name not in chains)


def _pairs(members: Iterable[tuple[SetName, frozenset[Member]]]) -> tuple[Change, ...]:
    return tuple((name, member) for name, some in members for member in some)


def _last_ones_last(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: change[0] in LAST))
