"""What is so of one pod's link, read by hand-packed netlink: for CHECK, which looks from inside and from the node.

Source: linux/rtnetlink.h (RTM_GETADDR, RTM_GETROUTE; RTM_F_FIB_MATCH gives the route that matched, not its result).
"""

import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from kernel import batch, podlink
from kernel.batch import F_DUMP, Message, NetlinkSocket
from kernel.errors import NetlinkError
from kernel.links import Link

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 20, 22, 24, 26
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_TABLE = 1, 4, 15
_F_FIB_MATCH = 0x2000
_RTN_UNICAST = 1
_LOCAL_TABLE = 255
_AF = {4: 2, 6: 10}
_ANYWHERE = {2: ip_network("0.0.0.0/0"), 10: ip_network("::/0")}


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A unicast route of any table but local."""

    destination: Network
    index: int
    protocol: int


def link(sock: NetlinkSocket, name: str) -> Link | None:
    """A link by name, None where there is none."""
    try:
        (answer,) = sock.transact([podlink.get_link(name)])
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return podlink.link_of(answer.body)[0]


def addresses(sock: NetlinkSocket, index: int) -> set[Address]:
    """The addresses of a link."""
    listing = Message(_GETADDR, F_DUMP, _IFADDR.pack(0, 0, 0, 0, 0), "addresses")
    found: set[Address] = set()
    for body in _bodies(sock, listing, _NEWADDR):
        if _IFADDR.unpack_from(body)[4] == index:
            parts = batch.attributes(body, _IFADDR.size)
            found.add(ip_address(parts.get(_IFA_LOCAL) or parts[_IFA_ADDRESS]))
    return found


def routes(sock: NetlinkSocket) -> set[FoundRoute]:
    """Every unicast route of the socket's namespace, of all tables: another plugin may have moved them."""
    listing = Message(_GETROUTE, F_DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "routes")
    return {route for body in _bodies(sock, listing, _NEWROUTE) if (route := _route(body)) is not None}


def route_to(sock: NetlinkSocket, address: Address) -> FoundRoute | None:
    """The route that a packet to an address takes; None where there is no unicast one."""
    header = _RTMSG.pack(_AF[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, _F_FIB_MATCH)
    asked = Message(_GETROUTE, 0, header + batch.attribute(_RTA_DST, address.packed), f"route to {address}")
    try:
        answers = sock.transact([asked])
    except NetlinkError as error:
        if error.code in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES):
            return None  # EINVAL: a blackhole
        raise
    return next((route for answer in answers if (route := _route(answer.body)) is not None), None)


def _bodies(sock: NetlinkSocket, listing: Message, kind: int) -> list[bytes]:
    found = []
    for data in sock.datagrams(listing):
        found += [body for _, one, _, body in batch.split(data) if one == kind]
    return found


def _route(body: bytes) -> FoundRoute | None:
    family, length, _, _, table, protocol, _, kind, _ = _RTMSG.unpack_from(body)
    parts = batch.attributes(body, _RTMSG.size)
    table = int.from_bytes(parts[_RTA_TABLE], "little") if _RTA_TABLE in parts else table
    if kind != _RTN_UNICAST or family not in _ANYWHERE or table == _LOCAL_TABLE:
        return None
    packed = parts.get(_RTA_DST)
    destination = ip_network((packed, length)) if packed else _ANYWHERE[family]
    return FoundRoute(destination, int.from_bytes(parts.get(_RTA_OIF, b""), "little"), protocol)
