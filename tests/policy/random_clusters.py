"""Small random clusters for Hypothesis: few names, so that selectors hit and miss about equally often."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import TypeVar

from hypothesis import strategies as st

from policy.evaluate import Snapshot
from policy.model import (
    Address,
    Cidr,
    Endpoint,
    EndpointId,
    NamedPort,
    Network,
    Pods,
    Policy,
    PolicyKey,
    PortMatch,
    PortName,
    PortRange,
    Protocol,
    Rule,
)
from policy.selectors import Operator, Requirement, Selector, select

NODES = ("n1", "n2")
NODE_ADDRESSES: Mapping[str, tuple[Address, ...]] = {
    "n1": (ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    "n2": (ip_address("192.0.2.2"), ip_address("2001:db8::2")),
}
OUTSIDE = (ip_address("10.0.0.7"), ip_address("fd00::7"), ip_address("198.51.100.7"), ip_address("2001:db8:f::7"))
"""Addresses of no pod, some of them among the pods' networks."""
NUMBERS = (1, 2, 3)
names = st.sampled_from(["x", "y"])
_keys, _values = st.sampled_from("ab"), st.sampled_from(["1", ""])
labels = st.dictionaries(_keys, _values, max_size=2)
namespace_labels = st.dictionaries(st.one_of(_keys, st.just("kubernetes.io/metadata.name")), st.one_of(_values, names))
protocols = st.sampled_from(Protocol)


def _requirement(key: str, operator: Operator, values: frozenset[str]) -> Requirement:
    return Requirement(key, operator, tuple(sorted(values)) if operator in (Operator.IN, Operator.NOT_IN) else ())


def _selectors(keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[Selector]:
    requirement = st.builds(
        _requirement, keys, st.sampled_from(Operator), st.frozensets(values, min_size=1, max_size=2)
    )
    return st.lists(requirement, max_size=2).map(select)


selectors = _selectors(_keys, _values)
_namespace_selectors = st.one_of(
    selectors, _selectors(st.just("kubernetes.io/metadata.name"), names), st.just(select())
)
pods_peers = st.builds(Pods, st.one_of(names, _namespace_selectors), selectors)
_networks: st.SearchStrategy[Network] = st.sampled_from(
    [
        ip_network(text)
        for text in (
            *("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/24", "10.0.0.0/29", "10.0.0.0/30", "10.0.0.4/30"),
            *("10.0.0.1/32", "10.0.0.2/32", "192.0.2.0/24", "198.51.100.0/24"),
            *("::/0", "::/1", "8000::/1", "fd00::/64", "fd00::/125", "fd00::/126", "fd00::4/126", "fd00::1/128"),
            *("fd00::2/128", "2001:db8::/32"),
        )
    ]
)
blocks = st.builds(Cidr, _networks, st.lists(_networks, max_size=2).map(tuple))
_numbers = st.integers(1, 4)
_ranges = st.builds(
    lambda protocol, one, other: PortRange(protocol, min(one, other), max(one, other)), protocols, _numbers, _numbers
)
port_matches: st.SearchStrategy[PortMatch] = st.one_of(
    _ranges, st.builds(PortRange, protocols), st.builds(PortName, protocols, st.sampled_from("pq"))
)
T = TypeVar("T")


def _mostly_some(parts: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.one_of(st.just(()), *[st.lists(parts, min_size=1, max_size=3).map(tuple)] * 2)


rules = st.builds(
    Rule,
    _mostly_some(st.one_of(pods_peers, blocks)),
    _mostly_some(port_matches),
)
_rule_lists = st.one_of(st.none(), st.just(()), st.lists(rules, min_size=1, max_size=3).map(tuple))


def policies(key: str) -> st.SearchStrategy[Policy]:
    """Policies of this key."""
    subjects = st.builds(Pods, st.one_of(names, _namespace_selectors), st.one_of(selectors, st.just(select())))
    return st.builds(Policy, st.just(PolicyKey(key)), subjects, _rule_lists, _rule_lists)


_named_ports = st.lists(
    st.builds(NamedPort, st.sampled_from("pq"), protocols, st.sampled_from(NUMBERS)), min_size=1, max_size=4
).map(tuple)


def endpoints(number: int, *, shared_addresses: bool = False) -> st.SearchStrategy[Endpoint]:
    """Endpoint `number`, with addresses of its own or with some that others may hold too."""
    own = st.just(number) if not shared_addresses else st.integers(1, 3)
    texts = own.flatmap(lambda n: st.sampled_from([(f"10.0.0.{n}",), (f"fd00::{n}",), (f"10.0.0.{n}", f"fd00::{n}")]))
    return st.builds(
        Endpoint,
        st.just(EndpointId(f"e{number}")),
        names,
        st.just(f"e{number}"),
        st.sampled_from(NODES),
        labels,
        texts.map(lambda found: tuple(map(ip_address, found))),
        _named_ports,
        st.just(f"tort{number}"),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A cluster of two nodes with up to five pods and four policies."""
    pods = [draw(endpoints(number)) for number in range(1, draw(st.integers(3, 5)) + 1)]
    found = [draw(policies(f"p{number}")) for number in range(draw(st.integers(1, 4)))]
    namespaces = draw(st.dictionaries(names, namespace_labels))
    return Snapshot({pod.id: pod for pod in pods}, {one.key: one for one in found}, namespaces, NODE_ADDRESSES)
