"""One policy's rules, and one group's chains, as iptables rules.

A policy's rule becomes one iptables rule for each pair of a peer and a port clause:

    peers   selectors one set each | networks of one rule together: a plain match, a set, or nothing at all for /0
    ports   for each protocol: numbers 15 slots at a time, each name its set, or the protocol alone

A group's chain is the rules of its isolating policies in order, then a word to listeners, then DROP. The rules of all
policies stand in it one after another, not in a chain of each policy: `-g` to TORTIE-ALLOW returns past everything, so
nothing has to ask after each policy whether it has allowed already.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kernel import sets, tables
from kernel.tables import DROP, MAX_MULTIPORT, Chain, Family
from policy import names, networks
from policy.model import Cidr, Direction, Pods, Policy, PolicyKey, PortMatch, PortName, PortRange, Protocol, Rule
from policy.names import Networks, SetExpression
from policy.resolve import GroupId
from policy.settings import Settings

Words = tuple[str, ...]
_ALLOW = tables.goto(names.ALLOW)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One policy's rules in one direction and family, and the sets they look things up in."""

    rules: tuple[tables.Rule, ...]
    needs: frozenset[SetExpression]


@dataclass(frozen=True, slots=True)
class _Clause:
    """Words that match a peer or a port, and the set they need."""

    words: Words = ()
    need: SetExpression | None = None


_ANY = (_Clause(),)


def render(policy: Policy, direction: Direction, family: Family) -> Rendered | None:
    """The rules of a policy in one direction; None where it doesn't isolate there."""
    rules = policy.rules(direction)
    if rules is None:
        return None
    rendered: dict[tables.Rule, None] = {}
    needs: set[SetExpression] = set()
    for index, rule in enumerate(rules):
        note = f"{policy.key} {direction.value}[{index}]"
        for clauses in _pairs(rule, direction, family):
            words = tuple(word for clause in clauses for word in clause.words)
            rendered[tables.Rule(words, _ALLOW, note)] = None
            needs.update(clause.need for clause in clauses if clause.need is not None)
    return Rendered(tuple(rendered), frozenset(needs))


def group_chain(
    direction: Direction,
    group: GroupId,
    policies: Iterable[tuple[PolicyKey, Rendered | None]],
    settings: Settings,
) -> Chain:
    """What the pods of a group may send (egress) or receive."""
    isolating = [(key, rendered) for key, rendered in policies if rendered is not None]
    name = names.group_chain(direction, group)
    if not isolating:
        return Chain(name, (tables.Rule((), _ALLOW, f"no policy isolates {direction.value}"),))
    by = ", ".join(key for key, _ in isolating)
    told = tables.nflog(settings.nflog_group, names.deny_prefix(direction, group))
    return Chain(
        name,
        (
            *(rule for _, rendered in isolating for rule in rendered.rules),
            tables.Rule(tables.limit(f"{settings.nflog_per_second}/sec"), told, f"tell of denied {direction.value}"),
            tables.Rule((), DROP, f"{direction.value} isolated by {by}"),
        ),
    )


def _pairs(rule: Rule, direction: Direction, family: Family) -> Iterator[tuple[_Clause, _Clause]]:
    peers = _peers(rule, direction, family) if rule.peers else _ANY
    ports = _ports(rule.ports, family) if rule.ports else _ANY
    for port in ports:
        for peer in peers:
            yield port, peer


def _peers(rule: Rule, direction: Direction, family: Family) -> Sequence[_Clause]:
    """Clauses of the peers that exist in this family; none of them, no rule."""
    way = "src" if direction is Direction.INGRESS else "dst"
    parts = networks.without_excepts((peer for peer in rule.peers if isinstance(peer, Cidr)), family)
    if any(part.prefixlen == 0 for part in parts):
        return _ANY
    selected = dict.fromkeys(peer for peer in rule.peers if isinstance(peer, Pods))
    clauses = [_looked_up(family, pods, way) for pods in selected]
    if len(parts) == 1:
        match = tables.source if direction is Direction.INGRESS else tables.destination
        clauses.append(_Clause(match(str(parts[0]))))
    elif parts:
        clauses.append(_looked_up(family, Networks(tuple(sets.network(part) for part in parts)), way))
    return clauses


def _ports(matches: Iterable[PortMatch], family: Family) -> list[_Clause]:
    clauses: list[_Clause] = []
    for protocol in Protocol:
        own = [match for match in matches if match.protocol is protocol]
        spans = sorted({(match.first, match.last) for match in own if isinstance(match, PortRange)})
        is_protocol = tables.protocol(protocol.word)
        if any(match.every for match in own if isinstance(match, PortRange)):
            clauses.append(_Clause(is_protocol))
            continue
        clauses += [_Clause((*is_protocol, *tables.ports(*chunk))) for chunk in _chunks(spans)]
        for name in dict.fromkeys(match for match in own if isinstance(match, PortName)):
            found = _looked_up(family, name, "dst", "dst")
            clauses.append(_Clause((*is_protocol, *found.words), name))
    return clauses


def _chunks(spans: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Spans in portions that one multiport match can hold; a range takes two slots."""
    chunk: list[tuple[int, int]] = []
    free = MAX_MULTIPORT
    for first, last in spans:
        slots = 1 if first == last else 2
        if slots > free:
            yield chunk
            chunk, free = [], MAX_MULTIPORT
        chunk.append((first, last))
        free -= slots
    if chunk:
        yield chunk


def _looked_up(family: Family, need: SetExpression, *ways: str) -> _Clause:
    return _Clause(tables.in_set(names.expression_set(family, need).name, *ways), need)
