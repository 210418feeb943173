"""What differs between the tables that are wanted and those that are there, as iptables-restore input.

Order, which `agent.dataplane` keeps: chains first (they stand alone), read back, then hooks (the jumps from the
kernel's own chains), so that a packet never jumps into a chain that isn't whole; when everything goes, the reverse.
Within one table's input chains are declared before any rule names them, and stale chains are emptied and removed last.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kernel.iptables import ActualTable, Hooked
from kernel.tables import Chain, ChainName, Rule, Table, TableName, restore_text


@dataclass(frozen=True, slots=True)
class Difference:
    """What to do to one table; nothing at all is falsy."""

    changed: tuple[Chain, ...] = ()
    stale: tuple[ChainName, ...] = ()
    hooks: bool = False

    def __bool__(self) -> bool:
        return bool(self.changed or self.stale or self.hooks)


def difference(desired: Table, actual: ActualTable) -> Difference:
    """Chains that are missing or not as they should be, chains nobody wants, and whether the hooks differ."""
    changed = tuple(chain for name, chain in desired.chains.items() if actual.chains.get(name) != chain.identities())
    stale = tuple(sorted(name for name in actual.chains if name not in desired.chains))
    return Difference(changed, stale, _wanted(desired.hooks) != _present(actual.hooks))


def chains_text(table: TableName, changed: Iterable[Chain], stale: Iterable[ChainName] = ()) -> str:
    """Restore input that writes `changed` anew and removes `stale`."""
    chains, gone = list(changed), list(stale)
    lines = [rule.line(f"-A {chain.name}") for chain in chains for rule in chain.rules]
    # Stale chains may name each other, so all are emptied before any is removed.
    lines += [f"-F {name}" for name in gone] + [f"-X {name}" for name in gone]
    return restore_text(table, lines, declare=[chain.name for chain in chains])


def hooks_text(table: TableName, desired: Table, actual: ActualTable) -> str:
    """Restore input that makes our rules in the kernel's own chains as they should be, at their heads.

    Where present rules are right in number and order they stay where they are: another program may have put its own
    above them since, and two programs that both insist on the first place would never rest.
    """
    lines: list[str] = []
    for chain in sorted(desired.hooks.keys() | actual.hooks.keys()):
        lines += _hook_lines(chain, desired.hooks.get(chain, ()), actual.hooks.get(chain, ()))
    return restore_text(table, lines)


def removal_text(table: TableName, actual: ActualTable) -> str:
    """Restore input that removes everything of ours from a table, hooks first; empty where there is nothing."""
    hooks = [hooked.text.replace("-A ", "-D ", 1) for rules in actual.hooks.values() for hooked in rules]
    names = sorted(actual.chains)
    lines = hooks + [f"-F {name}" for name in names] + [f"-X {name}" for name in names]
    return restore_text(table, lines) if lines else ""


def _hook_lines(chain: str, wanted: tuple[Rule, ...], present: tuple[Hooked, ...]) -> list[str]:
    if tuple(rule.identity for rule in wanted) == tuple(hooked.identity for hooked in present):
        return []
    removals = [hooked.text.replace("-A ", "-D ", 1) for hooked in present]
    return removals + [rule.line(f"-I {chain} {place}") for place, rule in enumerate(wanted, 1)]


def _wanted(hooks: Mapping[str, tuple[Rule, ...]]) -> dict[str, tuple[str, ...]]:
    return {chain: tuple(rule.identity for rule in rules) for chain, rules in hooks.items() if rules}


def _present(hooks: Mapping[str, tuple[Hooked, ...]]) -> dict[str, tuple[str, ...]]:
    return {chain: tuple(hooked.identity for hooked in rules) for chain, rules in hooks.items()}
