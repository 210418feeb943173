"""What our chains and sets are called. Everything begins with TORTIE- or tt4-, tt6-: only such things are ours.

    tt4-local        every local pod: address and interface      TORTIE-F-<group>  egress of a group's pods
    tt4-pods         every local pod: address                    TORTIE-T-<group>  ingress of a group's pods
    tt4-nodes        who may send us VXLAN                       TORTIE-FB-<n>     a bucket of groups, egress
    tt4-nat, tt4-pools   pools that say natOutgoing; all pools   TORTIE-NAT        packets of the former
    tt4-f-<group>    a group's pods as senders (local's type)    TORTIE-TB-<n>     a bucket of groups, ingress
    tt4-t-<group>    a group's pods as receivers
    tt4-fb-<n>, tt4-tb-<n>   the same of a bucket of groups
    tt4-p-<digest>   a peer: what a selector selects, or networks
    tt4-n-<digest>   every pod that has a named port, with its number

A group's name is a digest of its policies and their rules. Chain names have at most 28 bytes, names of sets 31.
"""

from dataclasses import dataclass
from typing import NamedTuple

from kernel.sets import Member, SetName, SetSpec, SetType
from kernel.tables import ChainName, Family
from policy.model import Direction, Pods, PortName, digest
from policy.resolve import GroupId

ALLOW = ChainName("TORTIE-ALLOW")


class DispatchNames(NamedTuple):
    """How one direction of the dispatch is called and looked up."""

    chain: ChainName
    letter: str
    type: SetType
    ways: tuple[str, ...]
    """Directions of its sets: what of the packet is looked up."""


EGRESS = DispatchNames(ChainName("TORTIE-FROM"), "f", SetType.ADDRESS_INTERFACES, ("src", "src"))
INGRESS = DispatchNames(ChainName("TORTIE-TO"), "t", SetType.ADDRESSES, ("dst",))


@dataclass(frozen=True, slots=True)
class Networks:
    """A peer of fixed networks, as set members in canonical order."""

    members: tuple[Member, ...]


SetExpression = Pods | Networks | PortName
"""What a rule may look up in a set that all rules with the same expression share."""


def dispatch(direction: Direction) -> DispatchNames:
    """The names of a direction."""
    return EGRESS if direction is Direction.EGRESS else INGRESS


def local(family: Family) -> SetName:
    """Every local pod's address together with its interface: what a pod may send as."""
    return _set(family, "local")


def pods(family: Family) -> SetName:
    """Every local pod's address."""
    return _set(family, "pods")


def nodes(family: Family) -> SetName:
    """Every node's underlay address."""
    return _set(family, "nodes")


def nat_pools(family: Family) -> SetName:
    """Every pool whose pods leave the pools with their node's address."""
    return _set(family, "nat")


def all_pools(family: Family) -> SetName:
    """Every pool."""
    return _set(family, "pools")


def group_set(family: Family, direction: Direction, group: GroupId) -> SetName:
    """The pods of a group."""
    return _set(family, f"{dispatch(direction).letter}-{group}")


def bucket_set(family: Family, direction: Direction, bucket: int) -> SetName:
    """The pods of all groups of a bucket."""
    return _set(family, f"{dispatch(direction).letter}b-{bucket}")


def group_chain(direction: Direction, group: GroupId) -> ChainName:
    """What a group's pods may send or receive."""
    return ChainName(f"TORTIE-{dispatch(direction).letter.upper()}-{group}")


def bucket_chain(direction: Direction, bucket: int) -> ChainName:
    """The dispatch within a bucket."""
    return ChainName(f"TORTIE-{dispatch(direction).letter.upper()}B-{bucket}")


def deny_prefix(direction: Direction, group: GroupId) -> str:
    """What a listener of NFLOG is told of a denied packet; with the group it finds the isolating policies."""
    return f"tt:deny:{direction.value}:{group}"


def expression_set(family: Family, expression: SetExpression) -> SetSpec:
    """The set that holds what an expression means in one family."""
    match expression:
        case Pods():
            kind, text, type_ = "p", f"pods {expression.text}", SetType.ADDRESSES
        case Networks():
            kind, text, type_ = "p", f"networks {','.join(expression.members)}", SetType.NETWORKS
        case PortName():
            kind, text, type_ = "n", f"port {expression}", SetType.ADDRESS_PORTS
    return SetSpec(_set(family, f"{kind}-{digest(text)}"), type_, family)


def _set(family: Family, rest: str) -> SetName:
    return SetName(f"tt{family.value}-{rest}")
