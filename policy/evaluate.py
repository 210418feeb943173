"""The verdict of one packet, and the reason: what the rules must do, said without any rules.

This is the oracle of the property tests and the engine of `tortiectl policy explain`, so it is written for reading: it
goes through the whole snapshot for each question, and shares nothing with the compiler but `model` and `selectors`.

Only new connections are judged. Replies and related ICMP errors pass; what was allowed once goes on (conntrack).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policy.model import Address, Endpoint, EndpointId, Policy, PolicyKey


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


def _addresses(snapshot: Snapshot, end: EndpointId | Address) -> tuple[Address, ...]:
    if not isinstance(end, str):
        return (end,)
    if end not in snapshot.endpoints:
        raise UnknownEndpoint(end)
    return snapshot.endpoints[end].addresses
