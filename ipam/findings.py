"""What an audit can find, as values."""

from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What is wrong; in the order of telling."""

    OWNED_TWICE = "OwnedTwice"
    ANOTHERS = "Anothers"
    NOT_ALLOCATED = "NotAllocated"
    OVERLAP = "Overlap"
    UNSOUND = "Unsound"
    OWNS_TWICE = "OwnsTwice"
    LEAKED = "Leaked"
    UNUSED_POOL = "UnusedPool"
    NO_POOL = "NoPool"
    OUTSIDE_POOL = "OutsidePool"
    WRONG_SIZE = "WrongSize"
    NODE_GONE = "NodeGone"
    OTHER_MACHINE = "OtherMachine"
    UNREADY = "Unready"
    FROZEN = "Frozen"
    STALE_NODE = "StaleNode"


@dataclass(frozen=True, slots=True)
class Scope:
    """What to read again to see whether a finding is still so: blocks by cell, endpoints by namespace, whole nodes."""

    cells: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()

    def __or__(self, other: "Scope") -> "Scope":
        return Scope(self.cells | other.cells, self.namespaces | other.namespaces, self.nodes | other.nodes)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    subject: str
    """The address, block or object."""
    what: str
    remedy: str
    block: str = ""
    """The block's name, where it is about one or an address of one."""
    evidence: str = ""
    """What else must be the same for two looks to have found one thing."""
    warning: bool = False
    """Perhaps just under way; nothing is wrong yet."""
    scope: Scope = field(default_factory=Scope, compare=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for one thing that was found twice."""
        return self.fault, self.subject, self.evidence


def scope_of(*, cells: tuple[str, ...] = (), namespaces: tuple[str, ...] = (), nodes: tuple[str, ...] = ()) -> Scope:
    """A scope of what isn't empty."""
    return Scope(*(frozenset(some) - {""} for some in (cells, namespaces, nodes)))
