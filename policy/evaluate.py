"""The verdict of one packet, and the reason: what the rules must do, said without any rules.

This is the oracle of the property tests and the engine of `tortiectl policy explain`, so it is written for reading: it
goes through the whole snapshot for each question, and shares nothing with the compiler but `model` and `selectors`.

Only new connections are judged. Replies and related ICMP errors pass; what was allowed once goes on (conntrack).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policy import model
from policy.model import Address, Cidr, Direction, Endpoint, EndpointId, Pods, Policy, PolicyKey, Protocol
from policy.selectors import Requirement
from policy.verdict import Clause, Miss, Party, RuleRef, Side, Special, Verdict

_NO_POD = 100
"""Distance of a podSelector from an address that no pod has: further than any labels can be."""


class NoVerdict(Exception):
    """The question can't be asked.

    NoVerdict
    ├── UnknownEndpoint     the snapshot has none of that name
    └── NoCommonFamily      one end has only IPv4, the other only IPv6
    """


class UnknownEndpoint(NoVerdict):
    """There is no such endpoint in the snapshot: no such pod, or one without an address of its own."""

    def __init__(self, endpoint: EndpointId) -> None:
        super().__init__(f"{endpoint} is no pod with an address of its own")
        self.endpoint = endpoint


class NoCommonFamily(NoVerdict):
    """`source` and `destination` have no addresses of one family."""

    def __init__(self, source: object, destination: object) -> None:
        super().__init__(f"{source} and {destination} have no addresses of one family")
        self.source = source
        self.destination = destination


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a verdict depends on."""

    endpoints: Mapping[EndpointId, Endpoint]
    policies: Mapping[PolicyKey, Policy] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of each namespace that has an object; others have their name alone."""
    nodes: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    """Each node's own addresses, those of its tunnels included."""
    vxlan_port: int = 4789


def pairs(
    snapshot: Snapshot, source: EndpointId | Address, destination: EndpointId | Address
) -> tuple[tuple[Address, Address], ...]:
    """Source and destination addresses of one family, in the order of the source's addresses.

    Raises:
        UnknownEndpoint: an end is named that the snapshot doesn't have.
        NoCommonFamily: there is no such pair.
    """
    found = tuple(
        (one, other)
        for one in _addresses(snapshot, source)
        for other in _addresses(snapshot, destination)
        if one.version == other.version
    )
    if not found:
        raise NoCommonFamily(source, destination)
    return found


def evaluate(
    snapshot: Snapshot,
    source: EndpointId | Address,
    destination: EndpointId | Address,
    port: int,
    protocol: Protocol,
    *,
    pair: tuple[Address, Address] | None = None,
) -> Verdict:
    """The verdict of a new connection from `source` to `port` of `destination`.

    An address that a pod has is that pod. `pair` chooses the addresses (see `pairs`); without it the first pair is
    taken, which is the first family of the source that both have.

    Raises:
        UnknownEndpoint: an end is named that the snapshot doesn't have.
        NoCommonFamily: the ends have no addresses of one family.
    """
    source_address, destination_address = pair or pairs(snapshot, source, destination)[0]
    packet = _Packet(
        snapshot,
        _party(snapshot, source, source_address),
        _party(snapshot, destination, destination_address),
        port,
        protocol,
    )
    return Verdict(
        packet.source,
        packet.destination,
        protocol,
        port,
        packet.side(Direction.EGRESS),
        packet.side(Direction.INGRESS),
        packet.special(),
    )


def _addresses(snapshot: Snapshot, end: EndpointId | Address) -> tuple[Address, ...]:
    if not isinstance(end, str):
        return (end,)
    if end not in snapshot.endpoints:
        raise UnknownEndpoint(end)
    return snapshot.endpoints[end].addresses


def _party(snapshot: Snapshot, end: EndpointId | Address, address: Address) -> Party:
    """On the wire there is only the address: whoever else holds it counts as a peer too."""
    holders = [endpoint for endpoint in snapshot.endpoints.values() if address in endpoint.addresses]
    return Party(address, tuple(sorted(holders, key=lambda endpoint: (endpoint.id != end, endpoint.id))))


@dataclass(frozen=True, slots=True)
class _Judgement:
    """How far a peer or port is from matching (0: it does), and the clause that says so."""

    distance: int
    clause: Clause


@dataclass(frozen=True, slots=True)
class _Packet:
    """One question, with what is needed to answer it."""

    snapshot: Snapshot
    source: Party
    destination: Party
    port: int
    protocol: Protocol

    def special(self) -> Special | None:
        """What is decided before any policy."""
        sender, receiver = self.source.endpoint, self.destination.endpoint
        if receiver is not None:
            if sender is not None and sender.id == receiver.id:
                return Special.SELF
            if self.source.address in self.snapshot.nodes.get(receiver.node, ()):
                return Special.NODE
        if sender is not None and self.protocol is Protocol.UDP and self.port == self.snapshot.vxlan_port:
            return Special.TUNNEL
        return None

    def side(self, direction: Direction) -> Side:
        """Egress of the source or ingress of the destination."""
        subject = (self.source if direction is Direction.EGRESS else self.destination).endpoint
        if subject is None:
            return Side(direction, None)
        policies = [self.snapshot.policies[key] for key in sorted(self.snapshot.policies)]
        isolating = [p for p in policies if p.rules(direction) is not None and self.selects(p.subject, subject)]
        keys = tuple(policy.key for policy in isolating)
        misses = []
        for policy in isolating:
            for index, rule in enumerate(policy.rules(direction) or ()):
                miss = self.judge_rule(RuleRef(policy.key, direction, index), rule)
                if miss.distance == 0:
                    return Side(direction, subject.id, keys, miss.rule)
                misses.append(miss)
        # a stable sort: equally close rules stay in the order of policies and rules
        return Side(direction, subject.id, keys, None, tuple(sorted(misses, key=lambda miss: miss.distance)))

    def selects(self, pods: Pods, endpoint: Endpoint) -> bool:
        """Whether `pods` selects the endpoint."""
        if isinstance(pods.namespace, str):
            here = pods.namespace == endpoint.namespace
        else:
            here = pods.namespace.matches(self.namespace_labels(endpoint.namespace))
        return here and pods.selector.matches(endpoint.labels)

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """The labels of a namespace as selectors see them."""
        return model.namespace_labels(name, self.snapshot.namespaces.get(name, {}))

    def judge_rule(self, ref: RuleRef, rule: model.Rule) -> Miss:
        """The closest peer and the closest port of a rule; both must match, and no list is no condition."""
        peer_field = f"{ref.place}.{ref.direction.peers_field}"
        peers = [self.judge_peer(f"{peer_field}[{i}]", peer, ref.direction) for i, peer in enumerate(rule.peers)]
        ports = [self.judge_port(f"{ref.place}.ports[{i}]", match) for i, match in enumerate(rule.ports)]
        closest = [min(judged, key=lambda one: one.distance) for judged in (peers, ports) if judged]
        return Miss(ref, tuple(one.clause for one in closest), sum(one.distance for one in closest))

    def judge_port(self, place: str, match: model.PortMatch) -> _Judgement:
        """A named port is the destination's, whatever the direction."""
        if match.protocol is not self.protocol:
            return _Judgement(2, Clause(place, str(match), f"{self.protocol.value}/{self.port}"))
        if isinstance(match, model.PortRange):
            found = "" if match.first <= self.port <= match.last else f"{self.protocol.value}/{self.port}"
            return _Judgement(bool(found), Clause(place, str(match), found))
        numbers = [holder.port_number(match.name, match.protocol) for holder in self.destination.holders]
        if self.port in numbers:
            return _Judgement(0, Clause(place, str(match)))
        if not self.destination.holders:
            return _Judgement(1, Clause(place, str(match), f"{self.destination}, which is no pod"))
        if numbers[0] is None:
            return _Judgement(1, Clause(place, str(match), f"{self.destination}, which has no port of that name"))
        wanted = f"{match} ({numbers[0]} at {self.destination})"
        return _Judgement(1, Clause(place, wanted, f"{self.protocol.value}/{self.port}"))

    def judge_peer(self, place: str, peer: model.Peer, direction: Direction) -> _Judgement:
        """The other end of the packet against one item of `from` or `to`."""
        party = self.source if direction is Direction.INGRESS else self.destination
        if isinstance(peer, Cidr):
            return _judge_cidr(place, peer, party)
        if not party.holders:
            return _Judgement(_NO_POD, Clause(*_pods_clause(place, peer), f"{party}, which is no pod"))
        return min((self.judge_pod(place, peer, pod) for pod in party.holders), key=lambda one: one.distance)

    def judge_pod(self, place: str, peer: Pods, pod: Endpoint) -> _Judgement:
        """One pod against a selector peer: first its namespace, then its labels."""
        failing = peer.selector.failing(pod.labels)
        if isinstance(peer.namespace, str):
            if peer.namespace != pod.namespace:
                return _Judgement(1 + len(failing), Clause(*_pods_clause(place, peer), pod.id))
        else:
            labels = self.namespace_labels(pod.namespace)
            wrong = peer.namespace.failing(labels)
            if wrong:
                found = _found(labels, wrong, f"namespace {pod.namespace}", f" of namespace {pod.namespace}")
                clause = Clause(f"{place}.namespaceSelector", _listed(wrong), found)
                return _Judgement(len(wrong) + len(failing), clause)
        if failing:
            found = _found(pod.labels, failing, "a pod")
            return _Judgement(len(failing), Clause(f"{place}.podSelector", _listed(failing), found))
        return _Judgement(0, Clause(*_pods_clause(place, peer)))


def _judge_cidr(place: str, peer: Cidr, party: Party) -> _Judgement:
    """A pod that misses an ipBlock is further away than an address: its author meant addresses outside."""
    hit = [part for part in peer.excepts if party.address in part]
    wanted = f"{peer.network}" + (f" except {hit[0]}" if hit else "")
    if peer.contains(party.address):
        return _Judgement(0, Clause(f"{place}.ipBlock", wanted))
    outside = party.address not in peer.network
    return _Judgement(2 if outside and party.holders else 1, Clause(f"{place}.ipBlock", wanted, str(party.address)))


def _pods_clause(place: str, peer: Pods) -> tuple[str, str]:
    """Field and text of a selector peer as its author wrote it."""
    if isinstance(peer.namespace, str):
        return f"{place}.podSelector", f"{peer.selector} (in namespace {peer.namespace})"
    if not peer.selector.requirements:
        return f"{place}.namespaceSelector", str(peer.namespace)
    return place, f"namespaceSelector {peer.namespace}, podSelector {peer.selector}"


def _listed(requirements: Iterable[Requirement]) -> str:
    return ",".join(str(requirement) for requirement in requirements)


def _found(labels: Mapping[str, str], requirements: Iterable[Requirement], bare: str, owner: str = "") -> str:
    """The labels that `requirements` look at, as they are; `bare` stands for who has none of them."""
    keys = list(dict.fromkeys(requirement.key for requirement in requirements))
    there = ",".join(f"{key}={labels[key]}" for key in keys if key in labels)
    missing = ", ".join(key for key in keys if key not in labels)
    return (f"{there}{owner}" if there else bare) + (f" without label {missing}" if missing else "")
