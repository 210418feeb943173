"""What `evaluate` says about one packet, in parts for programs and in one line for people.

The one line names the policy and the clause that failed, since "denied by default" helps nobody:

    shop/db is isolated by shop/db-allow-api; ingress[0].from[0].podSelector app=api does not match app=web
"""

from dataclasses import dataclass
from enum import Enum

from policy.model import Address, Direction, Endpoint, EndpointId, PolicyKey, Protocol


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a packet: an address, and the endpoints that hold it.

    More than one holds it only while an address changes hands; the first is the one that is meant.
    """

    address: Address
    holders: tuple[Endpoint, ...] = ()

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint meant, None for an address that no pod has."""
        return self.holders[0] if self.holders else None

    def __str__(self) -> str:
        return self.holders[0].id if self.holders else str(self.address)


@dataclass(frozen=True, slots=True)
class RuleRef:
    """Where a rule stands."""

    policy: PolicyKey
    direction: Direction
    index: int

    @property
    def place(self) -> str:
        """The rule within its policy, as the author would write it."""
        return f"{self.direction.value}[{self.index}]"

    def __str__(self) -> str:
        return f"{self.policy} {self.place}"


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a rule against the packet; `found` is what stood against it where it doesn't hold."""

    field: str
    """The clause within its policy: `ingress[0].from[0].podSelector`."""
    wanted: str
    found: str = ""

    @property
    def holds(self) -> bool:
        """Whether the packet fulfils the clause."""
        return not self.found

    def __str__(self) -> str:
        verb = "matches" if self.holds else f"does not match {self.found}"
        return f"{self.field} {self.wanted} {verb}"


@dataclass(frozen=True, slots=True)
class Miss:
    """A rule that doesn't allow the packet: its clauses, peers first, and how far it is from allowing it."""

    rule: RuleRef
    clauses: tuple[Clause, ...]
    distance: int
    """Conditions to change; the lowest is the closest rule."""

    @property
    def failed(self) -> tuple[Clause, ...]:
        """The clauses that don't hold."""
        return tuple(clause for clause in self.clauses if not clause.holds)

    def __str__(self) -> str:
        return " and ".join(str(clause) for clause in self.failed)


@dataclass(frozen=True, slots=True)
class Side:
    """One direction's answer: egress of the source, or ingress of the destination."""

    direction: Direction
    subject: EndpointId | None
    """The endpoint whose policies count here; None where that end is no pod."""
    isolated_by: tuple[PolicyKey, ...] = ()
    allowed_by: RuleRef | None = None
    misses: tuple[Miss, ...] = ()
    """Where nothing allows: every rule of the isolating policies, closest first."""

    @property
    def isolated(self) -> bool:
        """Whether anything must be allowed explicitly here."""
        return bool(self.isolated_by)

    @property
    def allowed(self) -> bool:
        """Whether this direction lets the packet pass."""
        return not self.isolated_by or self.allowed_by is not None

    @property
    def closest(self) -> Miss | None:
        """The rule that came closest to allowing what is denied."""
        return self.misses[0] if self.misses else None

    @property
    def reason(self) -> str:
        """One line, without the verdict."""
        if self.subject is None:
            return f"no pod, so no {self.direction.value} policy"
        if not self.isolated_by:
            return f"no policy isolates {self.subject}'s {self.direction.value}"
        if self.allowed_by is not None:
            return f"{self.allowed_by} allows it"
        isolated = f"{self.subject} is isolated by {', '.join(self.isolated_by)}"
        if self.closest is None:
            return f"{isolated}; no rule allows any {self.direction.value}"
        named = f"{self.closest.rule.policy} " if len(self.isolated_by) > 1 else ""
        return f"{isolated}; {named}{self.closest}"


class Special(Enum):
    """What is decided whatever the policies say."""

    SELF = "a pod always reaches itself"
    NODE = "a node always reaches its own pods"
    TUNNEL = "pods may not send to the VXLAN port"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a new connection may be made, and why (not)."""

    source: Party
    destination: Party
    protocol: Protocol
    port: int
    egress: Side
    ingress: Side
    special: Special | None = None

    @property
    def allowed(self) -> bool:
        """The answer."""
        if self.special is not None:
            return self.special is not Special.TUNNEL
        return self.egress.allowed and self.ingress.allowed

    @property
    def reason(self) -> str:
        """One line: what decided."""
        if self.special is not None:
            return self.special.value
        for side in (self.egress, self.ingress):
            if not side.allowed:
                return side.reason
        sides = [side for side in (self.egress, self.ingress) if side.subject is not None]
        decided = [side for side in sides if side.isolated] or sides
        return "; ".join(side.reason for side in decided) or "neither end is a pod, so no policy applies"
