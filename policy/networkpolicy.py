"""Kubernetes' NetworkPolicy (networking.k8s.io/v1) as `model.Policy`: the API's defaults are applied here.

- `policyTypes` left out means Ingress, and Egress only where the policy has egress rules; so a policy with egress
  rules alone isolates ingress too (pkg/apis/networking/v1/defaults.go, SetDefaults_NetworkPolicy).
- A peer with a podSelector alone means pods of the policy's own namespace; with a namespaceSelector, pods of all
  namespaces that it matches.
- A CIDR of a live cluster may have host bits set: the API server took 10.0.0.5/24 for years. They are masked.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import TypeVar

from datastore.errors import Invalid
from datastore.resources.names import parse_address
from datastore.resources.networkpolicy import (
    EgressRule,
    IngressRule,
    IPBlock,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
    check_port,
)
from policy import selectors
from policy.model import Cidr, Network, Peer, Pods, Policy, PolicyKey, PortMatch, PortName, PortRange, Protocol, Rule

T = TypeVar("T")
R = TypeVar("R")


def convert(resource: NetworkPolicy) -> Policy:
    """The policy that a NetworkPolicy means.

    Raises:
        Invalid: a field that can't be understood, with its path.
    """
    spec, namespace = resource.spec, resource.namespace
    types = spec.policy_types or (("Ingress", "Egress") if spec.egress else ("Ingress",))

    def ingress(rule: IngressRule) -> Rule:
        return Rule(_each(rule.from_, "from", _peer_of(namespace)), _each(rule.ports, "ports", _port))

    def egress(rule: EgressRule) -> Rule:
        return Rule(_each(rule.to, "to", _peer_of(namespace)), _each(rule.ports, "ports", _port))

    return Policy(
        PolicyKey(f"{namespace}/{resource.name}"),
        Pods(namespace, _below("spec.podSelector", selectors.from_label_selector, spec.pod_selector)),
        _each(spec.ingress, "spec.ingress", ingress) if "Ingress" in types else None,
        _each(spec.egress, "spec.egress", egress) if "Egress" in types else None,
    )


def _peer_of(namespace: str) -> Callable[[PolicyPeer], Peer]:
    def convert_peer(peer: PolicyPeer) -> Peer:
        if peer.ip_block is not None:
            return _below("ipBlock", _cidr, peer.ip_block)
        pods = selectors.EVERYTHING
        if peer.pod_selector is not None:
            pods = _below("podSelector", selectors.from_label_selector, peer.pod_selector)
        if peer.namespace_selector is None:
            return Pods(namespace, pods)
        return Pods(_below("namespaceSelector", selectors.from_label_selector, peer.namespace_selector), pods)

    return convert_peer


def _cidr(block: IPBlock) -> Cidr:
    return Cidr(_network(block.cidr, "cidr"), _each(block.except_, "except", lambda text: _network(text, "")))


def _network(text: str, path: str) -> Network:
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise Invalid(path, f"{text!r} is no CIDR") from None
    parse_address(text.partition("/")[0], path)  # a zone holds any text, and would get into rules
    return found


def _port(port: PolicyPort) -> PortMatch:
    try:
        protocol = Protocol(port.protocol)
    except ValueError:
        raise Invalid("protocol", f"{port.protocol!r} is no protocol here") from None
    if isinstance(port.port, str):
        return PortName(protocol, port.port)
    if port.port is None:
        return PortRange(protocol)
    check_port(port.port, "port")
    last = port.port if port.end_port is None else port.end_port
    check_port(last, "endPort")
    if last < port.port:
        raise Invalid("endPort", f"{last} is less than port {port.port}")
    return PortRange(protocol, port.port, last)


def _each(parts: Iterable[T], path: str, convert_part: Callable[[T], R]) -> tuple[R, ...]:
    return tuple(_below(f"{path}[{index}]", convert_part, part) for index, part in enumerate(parts))


def _below(path: str, convert_part: Callable[[T], R], part: T) -> R:
    try:
        return convert_part(part)
    except Invalid as error:
        raise error.below(path) from None
