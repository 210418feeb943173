"""The policies that some group of one family has: their rules, the sets these need, and the groups' chains."""

from collections.abc import Iterable, Iterator

from kernel.tables import Family, TableName
from policy import names
from policy.desired import Desired
from policy.model import Direction, Policy, PolicyKey
from policy.names import SetExpression
from policy.peers import PeerSets
from policy.render import Rendered, group_chain, render
from policy.resolve import Group
from policy.settings import Settings

Edition = tuple[PolicyKey, str]
"""A policy and its version."""


class ActivePolicies:
    """Policies that select no local pod cost nothing here: no rule, no set, no selector to follow."""

    def __init__(self, family: Family, desired: Desired, peers: PeerSets, settings: Settings) -> None:
        self._key = (family, TableName.MANGLE)
        self._family = family
        self._desired = desired
        self._peers = peers
        self._settings = settings
        self._users: dict[Edition, int] = {}
        """How many groups have a policy."""
        self._rendered: dict[Edition, dict[Direction, Rendered | None]] = {}

    def settle(self, born: Iterable[Group], gone: Iterable[Group]) -> None:
        """Groups came and went. What came is made first, so that a set that both need stays."""
        for group in born:
            for policy in group.policies:
                self._use(policy)
            for direction in Direction:
                rules = [(policy.key, self._rendered[_edition(policy)][direction]) for policy in group.policies]
                self._desired.put_chain(self._key, group_chain(direction, group.id, rules, self._settings))
        for group in gone:
            for policy in group.policies:
                self._use_no_more(policy)
            for direction in Direction:
                self._desired.drop_chain(self._key, names.group_chain(direction, group.id))

    def _use(self, policy: Policy) -> None:
        edition = _edition(policy)
        self._users[edition] = self._users.get(edition, 0) + 1
        if self._users[edition] == 1:
            self._rendered[edition] = {direction: render(policy, direction, self._family) for direction in Direction}
            for expression in self._needs(edition):
                self._peers.acquire(self._family, expression)

    def _use_no_more(self, policy: Policy) -> None:
        edition = _edition(policy)
        self._users[edition] -= 1
        if not self._users[edition]:
            for expression in self._needs(edition):
                self._peers.release(self._family, expression)
            del self._users[edition], self._rendered[edition]

    def _needs(self, edition: Edition) -> Iterator[SetExpression]:
        """Once for each direction that needs it."""
        for rendered in self._rendered[edition].values():
            if rendered is not None:
                yield from rendered.needs


def _edition(policy: Policy) -> Edition:
    return policy.key, policy.version
