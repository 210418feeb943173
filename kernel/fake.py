"""A kernel in memory: understands restore input, prints save output, and says no where the real one does.

It is a `Runner` for the same iptables and ipset commands, so the drivers above it run unchanged; set members and routes
that go by netlink have their own small doors. tests/kernel/test_contract.py holds it and the real kernel to the same
suite, refusals included. It prints rules in its own words, as the real one does, so that nobody compares text.
"""

import copy
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import pairwise

from kernel.errors import CommandFailed, KernelError
from kernel.ipset import Change
from kernel.links import Route
from kernel.sets import MAX_SET_NAME, Member, SetName, SetType
from kernel.tables import MAX_CHAIN_NAME, MAX_COMMENT, MAX_MULTIPORT, Family, TableName

_BUILT_IN = {
    TableName.RAW: ("PREROUTING", "OUTPUT"),
    TableName.MANGLE: ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    TableName.FILTER: ("INPUT", "FORWARD", "OUTPUT"),
    TableName.NAT: ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
_TARGETS = {"ACCEPT", "DROP", "RETURN", "MARK", "NFLOG", "MASQUERADE"}

Words = tuple[str, ...]
Chains = dict[str, list[Words]]


class Refused(Exception):
    """What the real command would print before it ends with an error."""


@dataclass
class FakeSet:
    """A set and its members."""

    type: SetType
    family: str
    max_members: int
    members: set[Member] = field(default_factory=set)


class FakeKernel:
    """Tables, sets and routes of one network namespace; all public state may be looked at and broken by tests."""

    def __init__(self) -> None:
        self.tables: dict[tuple[Family, TableName], Chains] = {
            (family, table): {chain: [] for chain in chains} for family in Family for table, chains in _BUILT_IN.items()
        }
        self.sets: dict[SetName, FakeSet] = {}
        self.routes: set[Route] = set()
        self.interfaces: set[str] = set()
        self.commands: list[Words] = []
        """Every command that was run, for tests that count them."""

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """See `kernel.runner.Runner.run`: iptables' and ipset's save and restore, `iptables --version`."""
        self.commands.append(tuple(argv))
        try:
            return self._dispatch(argv, stdin)
        except Refused as refusal:
            raise CommandFailed(argv, 1, str(refusal), stdin) from None

    def change(self, added: Iterable[Change], removed: Iterable[Change] = ()) -> None:
        """See `kernel.ipset.MemberChanges.change`."""
        try:
            for name, member in added:
                self._add(name, member)
        except Refused as refusal:
            raise KernelError(str(refusal)) from None
        for name, member in removed:
            if name in self.sets:
                self.sets[name].members.discard(member)

    def _dispatch(self, argv: Sequence[str], stdin: str) -> str:
        match list(argv):
            case ["ipset", "save"]:
                return self._save_sets()
            case ["ipset", "restore", "-exist"]:
                return self._restore_sets(stdin)
            case ["iptables", "--version"]:
                return "iptables v1.8.9 (nf_tables)\n"
            case [command, *options] if command.startswith(("iptables-nft-", "ip6tables-nft-")):
                family = Family.IPV6 if command.startswith("ip6") else Family.IPV4
                if command.endswith("-save"):
                    return self._save(family, options)
                return self._restore(family, stdin)
            case [command, *_] if "-legacy-" in command:
                raise Refused("this fake has the nft backend alone")
            case _:
                raise Refused(f"unknown command {argv[0]}")

    # iptables

    def _save(self, family: Family, options: list[str]) -> str:
        wanted = [TableName(options[1])] if options[:1] == ["-t"] else list(TableName)
        lines: list[str] = []
        for table in wanted:
            chains = self.tables[family, table]
            lines.append(f"*{table.value}")
            lines += [f":{name} {'ACCEPT' if name in _BUILT_IN[table] else '-'} [0:0]" for name in chains]
            lines += [f"-A {name} {_own_words(words)}" for name, rules in chains.items() for words in rules]
            lines.append("COMMIT")
        return "\n".join([*lines, ""])

    def _restore(self, family: Family, text: str) -> str:
        table: TableName | None = None
        work: Chains = {}
        for number, line in enumerate(text.splitlines(), 1):
            try:
                if line.startswith("*"):
                    table = TableName(line[1:])
                    work = copy.deepcopy(self.tables[family, table])
                elif table is None:
                    raise Refused("no table")
                elif line == "COMMIT":
                    self._check_references(work)
                    self.tables[family, table] = work
                    table = None
                else:
                    self._apply(work, table, line)
            except Refused as refusal:
                raise Refused(f"line {number} failed: {line}: {refusal}") from None
        if table is not None:
            raise Refused("COMMIT expected")
        return ""

    def _apply(self, chains: Chains, table: TableName, line: str) -> None:
        if line.startswith(":"):
            self._declare(chains, table, line[1:].split(" ")[0])
            return
        verb, chain, *words = shlex.split(line)
        if chain not in chains:
            raise Refused(f"no chain {chain}")
        if verb == "-A":
            chains[chain].append(self._rule(words))
        elif verb == "-I":
            chains[chain].insert(int(words[0]) - 1, self._rule(words[1:]))
        elif verb == "-D":
            self._delete(chains[chain], words)
        elif verb == "-F":
            chains[chain].clear()
        elif verb == "-X":
            self._delete_chain(chains, table, chain)
        else:
            raise Refused(f"unknown option {verb}")

    def _declare(self, chains: Chains, table: TableName, name: str) -> None:
        if len(name) > MAX_CHAIN_NAME:
            raise Refused(f"chain name {name} too long")
        if name not in _BUILT_IN[table]:
            chains[name] = []

    def _delete(self, rules: list[Words], words: list[str]) -> None:
        try:
            rules.remove(_original(words))
        except ValueError:
            raise Refused("no such rule") from None

    def _delete_chain(self, chains: Chains, table: TableName, name: str) -> None:
        if name in _BUILT_IN[table] or chains[name]:
            raise Refused(f"chain {name} is built in or not empty")
        if any(_target(words) == name for rules in chains.values() for words in rules):
            raise Refused(f"chain {name} is in use")
        del chains[name]

    def _rule(self, words: list[str]) -> Words:
        for option, value in pairwise(words):
            if option == "--match-set" and SetName(value) not in self.sets:
                raise Refused(f"Set {value} doesn't exist.")
            if option == "--comment" and len(value.encode()) > MAX_COMMENT:
                raise Refused("comment too long")
            if option == "--dports" and sum(1 + (":" in part) for part in value.split(",")) > MAX_MULTIPORT:
                raise Refused("too many ports")
        return tuple(words)

    def _check_references(self, chains: Chains) -> None:
        for rules in chains.values():
            for words in rules:
                target = _target(words)
                if target and target not in _TARGETS and target not in chains:
                    raise Refused(f"no chain {target}")

    # ipset

    def _save_sets(self) -> str:
        lines: list[str] = []
        for name, found in self.sets.items():
            lines.append(
                f"create {name} {found.type.value} family {found.family} hashsize 1024 maxelem {found.max_members} "
                "bucketsize 12 initval 0x00000000"
            )
            lines += [f"add {name} {member}" for member in found.members]
        return "\n".join([*lines, ""]) if lines else ""

    def _restore_sets(self, text: str) -> str:
        for number, line in enumerate(text.splitlines(), 1):
            try:
                self._set_line(line.split())
            except Refused as refusal:
                raise Refused(f"Error in line {number}: {refusal}") from None
        return ""

    def _set_line(self, words: list[str]) -> None:
        name = SetName(words[1])
        if words[0] == "create":
            self._create(name, words[2:])
        elif words[0] == "destroy":
            self._destroy(name)
        elif words[0] == "add":
            self._add(name, Member(words[2]))
        elif name not in self.sets:
            raise Refused("The set with the given name does not exist")
        else:
            self.sets[name].members.discard(Member(words[2]))

    def _create(self, name: SetName, words: list[str]) -> None:
        if len(name) > MAX_SET_NAME:
            raise Refused("setname is longer than 31 characters")
        options = dict(zip(words[1::2], words[2::2], strict=True))
        made = FakeSet(SetType(words[0]), options["family"], int(options["maxelem"]))
        there = self.sets.setdefault(name, made)
        if (there.type, there.family, there.max_members) != (made.type, made.family, made.max_members):
            raise Refused("Set cannot be created: set with the same name already exists")

    def _destroy(self, name: SetName) -> None:
        used = (words for chains in self.tables.values() for rules in chains.values() for words in rules)
        if any(name in words for words in used):
            raise Refused("Set cannot be destroyed: it is in use by a kernel component")
        self.sets.pop(name, None)

    def _add(self, name: SetName, member: Member) -> None:
        if name not in self.sets:
            raise Refused("The set with the given name does not exist")
        found = self.sets[name]
        _check_member(found, member)
        if member not in found.members and len(found.members) >= found.max_members:
            raise Refused("Hash is full, cannot add more elements")
        found.members.add(member)


class FakeRoutes:
    """See `kernel.routes.Routes`; a view of a `FakeKernel`."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    async def read(self) -> set[Route]:
        """See `Routes.read`."""
        return set(self._kernel.routes)

    def change(self, added: Iterable[Route], removed: Iterable[Route] = ()) -> None:
        """See `Routes.change`."""
        self._kernel.routes -= set(removed)
        for route in added:
            if route.interface and route.interface not in self._kernel.interfaces:
                raise KernelError(f"route {route.destination}: no interface {route.interface}")
            self._kernel.routes -= {other for other in self._kernel.routes if other.destination == route.destination}
            self._kernel.routes.add(route)


def _check_member(found: FakeSet, member: Member) -> None:
    address, _, rest = member.partition(",")
    try:
        network = ip_network(address) if "/" in address else ip_network(ip_address(address))
    except ValueError:
        raise Refused(f"Syntax error: cannot parse {member}") from None
    if (network.version == 4) != (found.family == "inet"):
        raise Refused(f"{member} is of the other family")
    if network.prefixlen == 0:
        raise Refused("The value of the CIDR parameter of the IP address is invalid")
    if bool(rest) != (found.type in (SetType.ADDRESS_INTERFACES, SetType.ADDRESS_PORTS)):
        raise Refused(f"{member} has the wrong number of parts")


def _own_words(words: Words) -> str:
    """The rule as this fake prints it: the comment moved before the other matches, and quoted only if it must be."""
    text = list(words)
    if "--comment" in text:
        place = text.index("--comment") - 2
        comment = text[place : place + 4]
        del text[place : place + 4]
        text = comment + text
    return " ".join(f'"{word}"' if " " in word else word for word in text)


def _original(words: Sequence[str]) -> Words:
    """The inverse of `_own_words`: the comment back before the target."""
    text = list(words)
    if text[:2] != ["-m", "comment"]:
        return tuple(text)
    comment, rest = text[:4], text[4:]
    place = next((index for index, word in enumerate(rest) if word in ("-j", "-g")), len(rest))
    return tuple(rest[:place] + comment + rest[place:])


def _target(words: Words) -> str:
    for option, value in pairwise(words):
        if option in ("-j", "-g"):
            return value
    return ""
