"""Single ipset members by netlink: what a new pod in a known group costs, instead of a run of ipset(8).

Members come as `kernel.sets` writes them. Many at once, and sets themselves, go through `kernel.ipset` (restore).
Source: linux/netfilter/ipset/ip_set.h (protocol 6 and 7 share these messages).
"""

import errno
import struct
from ipaddress import IPv4Address, ip_address

from kernel import batch
from kernel.batch import NET_BYTE_ORDER, Message
from kernel.sets import Member, SetName

_SUBSYSTEM = 6 << 8
_ADD, _DEL = 9, 10
_NFGENMSG = struct.Struct("=BBH")
_PROTOCOL, _SETNAME, _DATA = 1, 2, 7
_IP, _CIDR, _PORT, _PROTO, _IFACE = 1, 3, 4, 7, 23
_IPADDR_IPV4, _IPADDR_IPV6 = 1, 2
_VERSION = 6
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_EXISTS = 4103
"""IPSET_ERR_EXIST: adding what is a member, or deleting what is none; without NLM_F_EXCL the kernel says nothing."""


def add_member(name: SetName, member: Member) -> Message:
    """Put a member in; one that is there already is fine."""
    return Message(_SUBSYSTEM | _ADD, 0, _body(name, member), f"{member} into set {name}")


def remove_member(name: SetName, member: Member) -> Message:
    """Take a member out; one that isn't there, or a set that isn't, is fine."""
    fine = frozenset({errno.ENOENT, _EXISTS})
    return Message(_SUBSYSTEM | _DEL, 0, _body(name, member), f"{member} out of set {name}", fine)


def _body(name: SetName, member: Member) -> bytes:
    address, _, rest = member.partition(",")
    network, _, length = address.partition("/")
    ip = ip_address(network)
    kind = _IPADDR_IPV4 if isinstance(ip, IPv4Address) else _IPADDR_IPV6
    data = batch.nested(_IP, batch.attribute(kind | NET_BYTE_ORDER, ip.packed))
    if length:
        data += batch.u8(_CIDR, int(length))
    protocol, colon, port = rest.partition(":")
    if colon:
        data += batch.attribute(_PORT | NET_BYTE_ORDER, int(port).to_bytes(2, "big"))
        data += batch.u8(_PROTO, _PROTOCOL_NUMBERS[protocol])
    elif rest:
        data += batch.text(_IFACE, rest)
    head = _NFGENMSG.pack(2 if kind == _IPADDR_IPV4 else 10, 0, 0)
    return head + batch.u8(_PROTOCOL, _VERSION) + batch.text(_SETNAME, name) + batch.nested(_DATA, data)
