"""ipsets as values: what a set is, and its members as ipset(8) writes them.

Members are text in ipset's canonical form, so that what `ipset save` prints can be compared with what is wanted:
addresses without zeros to spare, networks without host bits, a lone address without /32 or /128.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

from kernel.tables import Family

SetName = NewType("SetName", str)
Member = NewType("Member", str)

MAX_SET_NAME = 31
"""Bytes. IPSET_MAXNAMELEN is 32 with its NUL (linux/netfilter/ipset/ip_set.h)."""


class SetType(Enum):
    """The set types used, as `ipset create` calls them."""

    ADDRESSES = "hash:ip"
    NETWORKS = "hash:net"
    ADDRESS_INTERFACES = "hash:net,iface"
    ADDRESS_PORTS = "hash:ip,port"


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A set without its members; two sets of one name but different spec can't be turned into each other."""

    name: SetName
    type: SetType
    family: Family
    max_members: int = 1 << 20
    """maxelem: the kernel refuses more (its default is 65,536)."""


def address(value: IPv4Address | IPv6Address) -> Member:
    """A member of a set of addresses."""
    return Member(str(value))


def network(value: IPv4Network | IPv6Network) -> Member:
    """A member of a set of networks; ipset refuses /0."""
    return Member(str(value.network_address) if value.prefixlen == value.max_prefixlen else str(value))


def address_interface(value: IPv4Address | IPv6Address, interface: str) -> Member:
    """An address together with the interface by which it comes in."""
    return Member(f"{value},{interface}")


def address_port(value: IPv4Address | IPv6Address, protocol: str, port: int) -> Member:
    """An address together with a port; `protocol` is tcp, udp or sctp."""
    return Member(f"{value},{protocol}:{port}")


def family_of(value: IPv4Address | IPv6Address | IPv4Network | IPv6Network) -> Family:
    """The family of an address or network."""
    return Family.IPV4 if value.version == 4 else Family.IPV6


def of_family(values: Iterable[IPv4Address | IPv6Address], family: Family) -> list[IPv4Address | IPv6Address]:
    """Those of one family, in order."""
    return [value for value in values if value.version == family.value]
