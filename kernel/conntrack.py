"""Forget what conntrack knows of an address, so that its next owner doesn't inherit flows and their verdicts.

IPv4 entries the kernel deletes by filter (since 6.8; a tuple and CTA_FILTER saying which part of it must be equal).
For IPv6 that filter is inverted: it deletes every entry but the ones meant (`!ipv6_addr_cmp` in
ctnetlink_filter_match_tuple; seen on 6.18, held by tests/kernel/test_conntrack.py). So IPv6, and IPv4 on older kernels,
is listed unfiltered and deleted one by one; a datagram without the address's bytes is not even taken apart.

Sources: linux/netfilter/nfnetlink_conntrack.h; net/netfilter/nf_conntrack_netlink.c (ctnetlink_del_conntrack,
ctnetlink_alloc_filter: each bit of CTA_FILTER_*_FLAGS says which part of the tuple must be equal).
"""

import errno
import struct
from ipaddress import IPv4Address, IPv6Address

from kernel import batch
from kernel.batch import F_DUMP, Message, NetlinkSocket
from kernel.errors import NetlinkError

_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = 0, 1, 2
_NFGENMSG = struct.Struct("=BBH")
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _FILTER = 1, 2, 12, 25
_TUPLE_IP = 1
_IP_V4_SRC, _IP_V6_SRC = 1, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_FLAG_IP_SRC = 1 << 0
_SIDES = (_TUPLE_ORIG, _TUPLE_REPLY)
_AT_ONCE = 200
"""Messages in one send: their acknowledgements must fit into the socket's receive buffer."""
_GONE = frozenset({errno.ENOENT})
_NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EINVAL})

Address = IPv4Address | IPv6Address


def forget(sock: NetlinkSocket, address: Address) -> None:
    """Delete every flow that `address` began or answers, whatever NAT made of its other side.

    Two looks are enough: who began a flow is the source of its original direction, who answers it the source of the
    reply. Each goes through the whole table (0.2 ms with 65,536 empty buckets): not for the way of an ADD.

    `sock` speaks NETLINK_NETFILTER in the namespace meant.

    Raises:
        NetlinkError: the kernel refused.
    """
    if address.version == 6:
        forget_one_by_one(sock, address)
        return
    try:
        sock.transact([_delete_where(address, side) for side in _SIDES])
    except NetlinkError as error:
        if error.code not in _NOT_SUPPORTED:
            raise
        forget_one_by_one(sock, address)


def forget_one_by_one(sock: NetlinkSocket, address: Address) -> None:
    """The same by listing: for IPv6, and for kernels before 6.8.

    Raises:
        NetlinkError: the kernel refused.
    """
    family = _NFGENMSG.pack(_af(address), 0, 0)
    listing = Message(_SUBSYSTEM | _GET, F_DUMP, family, f"conntrack entries of {address}")
    doomed: list[bytes] = []
    for data in sock.datagrams(listing):
        if address.packed in data:
            doomed += _entries_of(address, data)
    for start in range(0, len(doomed), _AT_ONCE):
        sock.transact(
            [
                Message(_SUBSYSTEM | _DELETE, 0, family + entry, f"conntrack entry of {address}", _GONE)
                for entry in doomed[start : start + _AT_ONCE]
            ]
        )


def _entries_of(address: Address, data: bytes) -> list[bytes]:
    """What names each entry of `address` in a datagram: its original tuple and its id."""
    source = _IP_V4_SRC if address.version == 4 else _IP_V6_SRC
    found = []
    for _, kind, _, body in batch.split(data):
        if kind != _SUBSYSTEM | _NEW or address.packed not in body:
            continue
        entry = batch.attributes(body, _NFGENMSG.size)
        for side in _SIDES:
            ips = batch.attributes(batch.attributes(entry[side])[_TUPLE_IP])
            if ips.get(source) == address.packed:
                found.append(batch.nested(_TUPLE_ORIG, entry[_TUPLE_ORIG]) + batch.attribute(_ID, entry[_ID]))
                break
    return found


def _delete_where(address: Address, side: int) -> Message:
    wanted = batch.nested(side, batch.nested(_TUPLE_IP, batch.attribute(_IP_V4_SRC, address.packed)))
    orig = _FLAG_IP_SRC if side == _TUPLE_ORIG else 0
    reply = _FLAG_IP_SRC if side == _TUPLE_REPLY else 0
    chosen = batch.nested(_FILTER, batch.u32(_FILTER_ORIG_FLAGS, orig), batch.u32(_FILTER_REPLY_FLAGS, reply))
    body = _NFGENMSG.pack(_af(address), 0, 0) + wanted + chosen
    return Message(_SUBSYSTEM | _DELETE, 0, body, f"conntrack entries of {address}", _GONE)


def _af(address: Address) -> int:
    return 2 if address.version == 4 else 10
