"""ipset: reading back our sets, and changing them by restore or, for single members, by netlink.

Sets that begin with `tt4-` or `tt6-` are ours; no other is looked at or touched. A set is made and filled before a rule
names it and destroyed after no rule does (the kernel refuses to destroy a set in use).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kernel.batch import NetlinkSocket
from kernel.members import add_member, remove_member
from kernel.runner import Runner
from kernel.sets import Member, SetName, SetSpec, SetType
from kernel.tables import Family

SET_PREFIXES = ("tt4-", "tt6-")
"""Sets that begin so are ours."""
FEW = 64
"""Members that go by netlink: about 10 us each; a run of ipset(8) takes 2 ms."""

Change = tuple[SetName, Member]


@dataclass(frozen=True, slots=True)
class ActualSet:
    """A set of ours as read back."""

    type: str
    family: str
    max_members: int
    members: frozenset[Member]

    def is_like(self, spec: SetSpec) -> bool:
        """Whether it can serve as `spec`."""
        mine = (self.type, self.family, self.max_members)
        return mine == (spec.type.value, spec.family.ipset, spec.max_members)


class MemberChanges(Protocol):
    """Adds and removes single members at once; both are idempotent."""

    def change(self, added: Iterable[Change], removed: Iterable[Change]) -> None:
        """Add, then remove, in the order given.

        Raises:
            KernelError: a set isn't there, or is full.
        """
        ...


class NetlinkMembers:
    """Members by netlink."""

    def __init__(self, sock: NetlinkSocket) -> None:
        self._socket = sock

    def change(self, added: Iterable[Change], removed: Iterable[Change]) -> None:
        """See `MemberChanges.change`."""
        messages = [add_member(*change) for change in added] + [remove_member(*change) for change in removed]
        for start in range(0, len(messages), FEW):
            self._socket.transact(messages[start : start + FEW])


class Ipset:
    """The sets of one network namespace."""

    def __init__(self, runner: Runner, members: MemberChanges) -> None:
        self._runner = runner
        self._members = members

    def read(self) -> dict[SetName, ActualSet]:
        """Every set of ours with its members.

        Raises:
            CommandFailed: ipset ended with an error.
        """
        return parse_save(self._runner.run(("ipset", "save")))

    def create(self, specs: Iterable[SetSpec]) -> None:
        """Make sets, empty; those that are there and alike stay as they are.

        Raises:
            CommandFailed: one of that name is there and is something else.
        """
        lines = [
            f"create {spec.name} {spec.type.value} family {spec.family.ipset} maxelem {spec.max_members}"
            for spec in specs
        ]
        self._restore(lines)

    def change(self, added: Iterable[Change], removed: Iterable[Change] = ()) -> None:
        """Add members, then remove others; what is so already stays so.

        Raises:
            KernelError: a set isn't there, or is full.
        """
        adding, removing = list(added), list(removed)
        if len(adding) + len(removing) <= FEW:
            self._members.change(adding, removing)
            return
        lines = [f"add {name} {member}" for name, member in adding]
        self._restore(lines + [f"del {name} {member}" for name, member in removing])

    def destroy(self, names: Iterable[SetName]) -> None:
        """Remove sets that no rule names any more.

        Raises:
            CommandFailed: one is still in use.
        """
        self._restore([f"destroy {name}" for name in names])

    def _restore(self, lines: list[str]) -> None:
        if lines:
            self._runner.run(("ipset", "restore", "-exist"), "\n".join([*lines, ""]))


def parse_save(text: str) -> dict[SetName, ActualSet]:
    """Ours among the lines of `ipset save`."""
    made: dict[str, Mapping[str, str]] = {}
    members: dict[str, set[Member]] = {}
    for line in text.splitlines():
        verb, name, rest = line.split(" ", 2)
        if not name.startswith(SET_PREFIXES):
            continue
        if verb == "create":
            kind, *options = rest.split(" ")
            made[name] = {"type": kind, **dict(zip(options[::2], options[1::2], strict=False))}
            members[name] = set()
        elif verb == "add":
            members[name].add(Member(rest.split(" ", 1)[0]))
    return {
        SetName(name): ActualSet(
            said["type"], said.get("family", "inet"), int(said.get("maxelem", "65536")), frozenset(members[name])
        )
        for name, said in made.items()
    }


def spec_of(name: SetName, actual: ActualSet) -> SetSpec:
    """The spec that a set read back was made from.

    Raises:
        ValueError: a type that we never make.
    """
    family = Family.IPV4 if actual.family == "inet" else Family.IPV6
    return SetSpec(name, SetType(actual.type), family, actual.max_members)
