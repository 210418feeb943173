"""iptables: reading back what is ours, and restoring what differs.

Reading looks at comments only. iptables-save prints a rule in its own words, which change between versions and
backends; the comment holds a hash of the rule we wrote (`kernel.tables`), so equal comments mean equal rules. Chains
that begin with `TORTIE-` are ours whole; in the kernel's own chains a rule is ours if its comment begins with `tt:`.

Writing is `iptables-restore --noflush -w`: one table is one atomic step, on legacy (the table is replaced) and on nft
(one transaction) alike; two tables are not.

A node has two backends and one of them filters. `detect` looks where the other programs of this node write.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from kernel.errors import CommandFailed
from kernel.runner import Runner
from kernel.tables import COMMENT_MARK, ChainName, Family, TableName
from kernel.xtables_lock import waited

CHAIN_PREFIX = "TORTIE-"
"""Chains that begin so are ours."""
LOCK_WAIT_S = 10
"""How long a command waits for another program's hold on the xtables lock (kube-proxy's syncs take seconds)."""
_COMMENT = re.compile(r'--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))')
_HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
"""Chains the kubelet makes in the backend that it uses (kubernetes, pkg/kubelet/kubelet_network_linux.go)."""


class Backend(Enum):
    """The two implementations behind the iptables commands."""

    LEGACY = "legacy"
    NFT = "nft"


@dataclass(frozen=True, slots=True)
class Hooked:
    """A rule of ours in one of the kernel's own chains, and its text as iptables-save prints it."""

    identity: str
    text: str


@dataclass(frozen=True, slots=True)
class ActualTable:
    """What of a table is ours, as read back."""

    chains: Mapping[ChainName, tuple[str, ...]] = field(default_factory=dict)
    """Identities of the rules, in order; a rule that isn't ours in a chain of ours shows as an empty identity."""
    hooks: Mapping[str, tuple[Hooked, ...]] = field(default_factory=dict)
    """By built-in chain, in order."""


class Iptables:
    """One backend's commands, for both families."""

    def __init__(self, runner: Runner, backend: Backend, lock: str = "") -> None:
        self.backend = backend
        self.on_restored: Callable[[Family, float, float, bool], None] = lambda family, waited, seconds, ok: None
        """Told of each restore, in its thread: the seconds for the lock and for the rest, and whether it was taken."""
        self._runner = runner
        self._lock = lock if backend is Backend.LEGACY else ""

    def read(self, family: Family, table: TableName) -> ActualTable:
        """What of this table is ours.

        Raises:
            CommandFailed: iptables-save ended with an error.
        """
        return parse_save(self._runner.run((self._command(family, "save"), "-t", table.value)))

    def read_all(self, family: Family) -> dict[TableName, ActualTable]:
        """The same for every table in use; asking legacy for a table by name would make it.

        Raises:
            CommandFailed: iptables-save ended with an error.
        """
        saved = self._runner.run((self._command(family, "save"),))
        parts = (part.partition("\n") for part in saved.split("\n*")) if "*" in saved else ()
        found = {name.lstrip("*").strip(): text for name, _, text in parts}
        return {table: parse_save(found[table.value]) for table in TableName if table.value in found}

    def restore(self, family: Family, text: str) -> None:
        """Apply restore input: all of a table's part or nothing of it.

        Raises:
            CommandFailed: a line was refused, or the lock wasn't to be had.
        """
        held_up = waited(self._lock, LOCK_WAIT_S) if self._lock else 0.0
        began, ok = time.perf_counter(), False
        try:
            self._runner.run((self._command(family, "restore"), "--noflush", "-w", str(LOCK_WAIT_S)), text)
            ok = True
        finally:
            self.on_restored(family, held_up, time.perf_counter() - began, ok)

    def _command(self, family: Family, verb: str) -> str:
        return f"{family.iptables}-{self.backend.value}-{verb}"


def parse_save(text: str) -> ActualTable:
    """Ours among the lines of iptables-save for one table."""
    chains: dict[ChainName, list[str]] = {}
    hooks: dict[str, list[Hooked]] = {}
    for line in text.splitlines():
        if line.startswith(":" + CHAIN_PREFIX):
            chains[ChainName(line[1:].split(" ", 1)[0])] = []
        elif line.startswith("-A "):
            chain = line.split(" ", 2)[1]
            identity = _identity(line)
            if chain.startswith(CHAIN_PREFIX):
                chains.setdefault(ChainName(chain), []).append(identity)
            elif identity:
                hooks.setdefault(chain, []).append(Hooked(identity, line))
    return ActualTable(
        {name: tuple(rules) for name, rules in chains.items()}, {name: tuple(rules) for name, rules in hooks.items()}
    )


def detect(runner: Runner) -> Backend:
    """The backend that this node uses: the kubelet's hint, else the one with more rules, else the default command's.

    Raises:
        CommandFailed: no iptables is installed.
    """
    saved = {backend: _saved(runner, backend) for backend in Backend}
    hinted = [backend for backend, text in saved.items() if any(f":{hint} " in text for hint in _HINTS)]
    if len(hinted) == 1:
        return hinted[0]
    rules = {backend: text.count("\n-A ") for backend, text in saved.items()}
    if rules[Backend.NFT] != rules[Backend.LEGACY]:
        return max(rules, key=lambda backend: rules[backend])
    return Backend.NFT if "nf_tables" in runner.run(("iptables", "--version")) else Backend.LEGACY


def _saved(runner: Runner, backend: Backend) -> str:
    try:
        return "\n".join(runner.run((f"{family.iptables}-{backend.value}-save",)) for family in Family)
    except CommandFailed:
        return ""  # a backend that isn't installed or that the kernel lacks is one that this node doesn't use


def _identity(line: str) -> str:
    found = _COMMENT.search(line)
    comment = (found.group(1) or found.group(2)) if found else ""
    return comment if comment.startswith(COMMENT_MARK) else ""
