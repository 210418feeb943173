"""The one form into which every kind of policy is brought, and endpoints as policy sees them.

A policy selects endpoints. For each direction in which it has rules (even none: `()`), it isolates them: only what some
rule of some isolating policy allows may pass. Source: the NetworkPolicy v1 API reference, and the points of
tests/policy/test_semantics.py where implementations went different ways.

Values refuse text that could break out of a rule's line; everything else is checked at the border (`check()` of the
resources).
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

from datastore.resources.kubernetes import NAMESPACE_NAME_LABEL
from policy.selectors import Selector

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

EndpointId = NewType("EndpointId", str)
"""How messages name an endpoint: `namespace/name` for a pod."""
PolicyKey = NewType("PolicyKey", str)
"""How messages and rules' comments name a policy: `shop/db-allow-api`; unique among all kinds."""

MAX_PORT = 65535

_KEY = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._/:]*")
_INTERFACE = re.compile(r"[-A-Za-z0-9._]{0,15}")


class Protocol(Enum):
    """The protocols that have ports in the NetworkPolicy API."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    @property
    def word(self) -> str:
        """How iptables and ipset write it."""
        return self.value.lower()


class Direction(Enum):
    """Seen from the endpoint that a policy selects."""

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def peers_field(self) -> str:
        """The field of a rule that lists its peers."""
        return "from" if self is Direction.INGRESS else "to"


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A container's port that has a name."""

    name: str
    protocol: Protocol
    number: int

    def __post_init__(self) -> None:
        _check_port(self.number)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod with addresses of its own; pods on the host's network and finished pods are none.

    `interface` is the host's end of its veth, empty where that isn't known or is on another node. Only an endpoint
    whose interface is ours (`tort…`) is enforced.
    """

    id: EndpointId
    namespace: str
    name: str
    node: str
    labels: Mapping[str, str]
    addresses: tuple[Address, ...]
    ports: tuple[NamedPort, ...] = ()
    interface: str = ""

    def __post_init__(self) -> None:
        if not _INTERFACE.fullmatch(self.interface):
            raise ValueError(f"{self.interface!r} is no name of an interface")

    def port_number(self, name: str, protocol: Protocol) -> int | None:
        """The number of its port of that name; the first counts, as in Kubernetes' FindPort."""
        for port in self.ports:
            if port.name == name and port.protocol is protocol:
                return port.number
        return None


@dataclass(frozen=True, slots=True)
class Pods:
    """Endpoints by namespace and labels; as a peer, and as the subject of a policy.

    `namespace` is one namespace's name, or a selector over namespaces' labels. Two are equal if their `text` is.
    """

    namespace: str | Selector = field(compare=False)
    selector: Selector = field(compare=False)
    text: str = field(init=False)
    """Canonical, such as `shop/app=api` or `[team=a]/app=api`; a namespace's name has no brackets."""

    def __post_init__(self) -> None:
        scope = self.namespace if isinstance(self.namespace, str) else f"[{self.namespace}]"
        object.__setattr__(self, "text", f"{scope}/{self.selector}")


@dataclass(frozen=True, slots=True)
class Cidr:
    """Addresses by network, without some parts of it: NetworkPolicy's ipBlock. Pods' addresses count too."""

    network: Network
    excepts: tuple[Network, ...] = ()

    def contains(self, address: Address) -> bool:
        """Whether the address is in the network and in none of the excepted parts."""
        return address in self.network and not any(address in part for part in self.excepts)


Peer = Pods | Cidr


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last` inclusive; both left out, every packet of the protocol."""

    protocol: Protocol
    first: int = 0
    last: int = MAX_PORT

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= MAX_PORT:
            raise ValueError(f"{self.first} to {self.last} is no range of ports")

    @property
    def every(self) -> bool:
        """Whether the number doesn't matter."""
        return self.first == 0 and self.last == MAX_PORT

    def __str__(self) -> str:
        if self.every:
            return self.protocol.value
        return f"{self.protocol.value}/{self.first}" + (f"-{self.last}" if self.last != self.first else "")


@dataclass(frozen=True, slots=True)
class PortName:
    """Whatever number the destination gives to the port of this name."""

    protocol: Protocol
    name: str

    def __str__(self) -> str:
        return f"{self.protocol.value}/{self.name}"


PortMatch = PortRange | PortName


@dataclass(frozen=True, slots=True)
class Rule:
    """What a policy allows: one of `peers` and one of `ports`; an empty list is no restriction."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[PortMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Which endpoints are isolated in which directions, and what is still allowed.

    `None` for a direction: this policy doesn't isolate there. `()`: it does, and allows nothing.
    """

    key: PolicyKey
    subject: Pods
    ingress: tuple[Rule, ...] | None = None
    egress: tuple[Rule, ...] | None = None
    version: str = field(init=False, compare=False, repr=False)
    """A digest of the rules: two versions of a policy never share a chain."""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"{self.key!r} can't name a policy in a rule")
        # repr, since it can't forget a field that is added to rules later
        object.__setattr__(self, "version", digest(repr((self.ingress, self.egress))))

    def rules(self, direction: Direction) -> tuple[Rule, ...] | None:
        """The rules of one direction, None where it isn't isolated."""
        return self.ingress if direction is Direction.INGRESS else self.egress


def digest(text: str) -> str:
    """19 letters and digits (95 bits) that stand for a text in the names of chains and sets.

    As many as fit behind `TORTIE-F-` in a chain's name. Not fewer: who may write policies chooses such texts, and could
    find one that shares 64 bits with one of ten thousand sets of others in some days.
    """
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:19].decode().lower()


def namespace_labels(name: str, declared: Mapping[str, str]) -> Mapping[str, str]:
    """A namespace's labels as selectors see them: its name always counts, whatever the object says."""
    return {**declared, NAMESPACE_NAME_LABEL: name}


def _check_port(number: int) -> None:
    if not 1 <= number <= MAX_PORT:
        raise ValueError(f"{number} is no port")
