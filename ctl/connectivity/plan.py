"""What is tried, in three acts, as values: who asks whom, and what must come of it.

no policy       pod to pod on its node and on others, pod to ClusterIP, a node to its own and others' pods, DNS
default deny    a policy that lets nothing in: pods are silent, the node still reaches its own pods (kubelets probe)
one allowed     a second one lets in who has the label role=client: clients are heard, strangers aren't
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

PORT = 8080
OPEN, SILENT = "open", "silent"
NO_POLICY, DENY, ALLOW = "no policy", "default deny", "one allowed"
ACTS = (NO_POLICY, DENY, ALLOW)
CLIENT, STRANGER, HOST = "client", "stranger", "host"


@dataclass(frozen=True, slots=True)
class Probe:
    """One question: does this port answer."""

    name: str
    address: str
    protocol: str = "TCP"
    """TCP, UDP, or DNS, for which the address is a name."""
    expected: str = OPEN


@dataclass(frozen=True, slots=True)
class Asker:
    """A pod that asks: a client, a stranger, or a pod in its node's own network."""

    role: str
    node: str
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What there is to be asked."""

    servers: Mapping[str, tuple[str, ...]]
    """Addresses of the server pod on each node."""
    service: tuple[str, ...]
    """Addresses of the Service before all of them."""
    name: str = ""
    """The Service's, where there is a DNS server to ask."""


def askers(act: str, targets: Targets) -> list[Asker]:
    """Who asks what in an act."""
    found = []
    for node in targets.servers:
        if act == NO_POLICY:
            found += [Asker(CLIENT, node, _everything(node, targets)), Asker(HOST, node, _from_host(node, targets))]
        elif act == DENY:
            found += [
                Asker(CLIENT, node, _near_and_far(node, CLIENT, targets, SILENT)),
                Asker(HOST, node, _own(node, targets)),
            ]
        else:
            found += [
                Asker(CLIENT, node, _near_and_far(node, CLIENT, targets, OPEN)),
                Asker(STRANGER, node, _near_and_far(node, STRANGER, targets, SILENT)),
            ]
    return [one for one in found if one.probes]


def _everything(node: str, targets: Targets) -> tuple[Probe, ...]:
    found = [probe for other in targets.servers for probe in _to_server(CLIENT, node, other, targets)]
    found += _to_server(CLIENT, node, _next_after(node, targets), targets, protocol="UDP")
    found += _to_service(CLIENT, node, targets, OPEN)
    if targets.name:
        found.append(Probe(f"client on {node} finds the Service's name", targets.name, "DNS"))
    return tuple(found)


def _near_and_far(node: str, role: str, targets: Targets, expected: str) -> tuple[Probe, ...]:
    there = dict.fromkeys((node, _next_after(node, targets)))
    probes = [probe for other in there for probe in _to_server(role, node, other, targets, expected)]
    return (*probes, *_to_service(role, node, targets, expected))


def _from_host(node: str, targets: Targets) -> tuple[Probe, ...]:
    return tuple(probe for other in targets.servers for probe in _to_server(HOST, node, other, targets))


def _own(node: str, targets: Targets) -> tuple[Probe, ...]:
    return tuple(_to_server(HOST, node, node, targets))


def _to_server(
    role: str, node: str, other: str, targets: Targets, expected: str = OPEN, protocol: str = "TCP"
) -> list[Probe]:
    where = "the pod on its own node" if node == other else f"the pod on {other}"
    verb = "reaches" if expected == OPEN else "doesn't reach"
    return [
        Probe(f"{role} on {node} {verb} {where}, {protocol} IPv{_version(address)}", address, protocol, expected)
        for address in _askable(node, targets.servers[other], targets)
    ]


def _to_service(role: str, node: str, targets: Targets, expected: str) -> list[Probe]:
    verb = "reaches" if expected == OPEN else "doesn't reach"
    return [
        Probe(f"{role} on {node} {verb} the ClusterIP, TCP IPv{_version(address)}", address, "TCP", expected)
        for address in _askable(node, targets.service, targets)
    ]


def _askable(node: str, addresses: Sequence[str], targets: Targets) -> list[str]:
    """Those of families that pods of the asker's node have: Services may have two where pods have one."""
    families = {_version(address) for address in targets.servers[node]}
    return [address for address in addresses if _version(address) in families]


def _next_after(node: str, targets: Targets) -> str:
    nodes: Sequence[str] = list(targets.servers)
    return nodes[(nodes.index(node) + 1) % len(nodes)]


def _version(address: str) -> int:
    return ip_address(address).version
