"""Kubernetes' NetworkPolicy (networking.k8s.io/v1), every field.

`None` and "empty" differ here as in the API: no `podSelector` in a peer isn't `podSelector: {}`, and no `policyTypes`
asks for the default. The defaults are not filled in: `policy` decides what absence means.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import ClassVar

import msgspec

from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.selector import LabelSelector
from datastore.resources.value import Checked, Kind, Resource, Value, check_below

PROTOCOLS = ("TCP", "UDP", "SCTP")
"""core/v1 Protocol; anything else is refused."""
PORT_MAX = 65535
_IANA_NAME_MAX = 15


class PolicyPort(Value, frozen=True, kw_only=True):
    """NetworkPolicyPort: a protocol, and one port, a range to `end_port`, a named port, or every port."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None

    def check(self) -> None:
        """Judge protocol, port and endPort together.

        Raises:
            Invalid: names the field within the port.
        """
        if self.protocol not in PROTOCOLS:
            raise names.invalid("protocol", self.protocol, f"is no protocol here ({', '.join(PROTOCOLS)})")
        if isinstance(self.port, str):
            check_port_name(self.port, "port")
        elif self.port is not None:
            check_port(self.port, "port")
        if self.end_port is None:
            return
        check_port(self.end_port, "endPort")
        if not isinstance(self.port, int):
            raise Invalid("endPort", "needs a numeric port to begin with")
        if self.end_port < self.port:
            raise names.invalid("endPort", self.end_port, f"is less than port {self.port}")


class IPBlock(Value, frozen=True, kw_only=True):
    """NetworkPolicy's IPBlock: a CIDR without some parts of it."""

    cidr: str
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")

    def check(self) -> None:
        """Judge the CIDRs.

        Raises:
            Invalid: names the field within the block.
        """
        outer = names.parse_cidr(self.cidr, "cidr")
        for index, text in enumerate(self.except_):
            inner = names.parse_cidr(text, f"except[{index}]")
            within = (
                isinstance(inner, IPv4Network) == isinstance(outer, IPv4Network)
                and inner.prefixlen > outer.prefixlen
                and inner.network_address in outer
            )
            if not within:
                raise names.invalid(f"except[{index}]", text, f"is not a part of {self.cidr}")


class PolicyPeer(Value, frozen=True, kw_only=True):
    """NetworkPolicyPeer: an IP block, or pods by namespace selector and pod selector (both must hold)."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None

    def check(self) -> None:
        """Judge whichever is given.

        Raises:
            Invalid: names the field within the peer.
        """
        given = {
            "podSelector": self.pod_selector,
            "namespaceSelector": self.namespace_selector,
            "ipBlock": self.ip_block,
        }
        if all(part is None for part in given.values()):
            raise Invalid("", "a peer needs podSelector, namespaceSelector or ipBlock")
        if self.ip_block is not None and (self.pod_selector is not None or self.namespace_selector is not None):
            raise Invalid("ipBlock", "stands alone: no podSelector or namespaceSelector beside it")
        for field, part in given.items():
            if part is not None:
                check_below(part, field)


class IngressRule(Value, frozen=True, kw_only=True):
    """NetworkPolicyIngressRule: no `from` is every source, no `ports` every port."""

    ports: tuple[PolicyPort, ...] = ()
    from_: tuple[PolicyPeer, ...] = msgspec.field(default=(), name="from")

    def check(self) -> None:
        """Judge ports and peers.

        Raises:
            Invalid: names the field within the rule.
        """
        _check_all(self.ports, "ports")
        _check_all(self.from_, "from")


class EgressRule(Value, frozen=True, kw_only=True):
    """NetworkPolicyEgressRule: no `to` is every destination, no `ports` every port."""

    ports: tuple[PolicyPort, ...] = ()
    to: tuple[PolicyPeer, ...] = ()

    def check(self) -> None:
        """Judge ports and peers.

        Raises:
            Invalid: names the field within the rule.
        """
        _check_all(self.ports, "ports")
        _check_all(self.to, "to")


class NetworkPolicySpec(Value, frozen=True, kw_only=True):
    """NetworkPolicySpec; `policy_types` is empty where the author gave none."""

    pod_selector: LabelSelector = LabelSelector()
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    policy_types: tuple[str, ...] = ()

    def check(self) -> None:
        """Judge the whole spec.

        Raises:
            Invalid: names the field within the spec.
        """
        check_below(self.pod_selector, "podSelector")
        _check_all(self.ingress, "ingress")
        _check_all(self.egress, "egress")
        for index, name in enumerate(self.policy_types):
            if name not in ("Ingress", "Egress"):
                raise names.invalid(f"policyTypes[{index}]", name, "is neither Ingress nor Egress")


class NetworkPolicy(Resource, frozen=True, kw_only=True):
    """networking.k8s.io/v1 NetworkPolicy."""

    KIND: ClassVar[Kind] = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", True, ("netpol",))

    spec: NetworkPolicySpec = NetworkPolicySpec()

    def check(self) -> None:
        """Judge metadata and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")


def check_port(number: int, path: str) -> None:
    """A port number.

    Raises:
        Invalid: outside 1 to 65535.
    """
    if not 1 <= number <= PORT_MAX:
        raise names.invalid(path, number, f"is no port (1 to {PORT_MAX})")


def check_port_name(name: str, path: str) -> None:
    """A named port (RFC 6335 section 5.1, as Kubernetes' IsValidPortName reads it).

    Raises:
        Invalid: not such a name.
    """
    names.check_label_name(name, path)
    if len(name) > _IANA_NAME_MAX or "--" in name or not any(letter.isalpha() for letter in name):
        raise names.invalid(path, name, f"is no port name (at most {_IANA_NAME_MAX}, with a letter, without --)")


def _check_all(parts: Sequence[Checked], path: str) -> None:
    for index, part in enumerate(parts):
        check_below(part, f"{path}[{index}]")
