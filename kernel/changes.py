"""Hearing that tables, routes or links have changed, whoever changed them.

    nft       nfnetlink tells of every new generation of the rule set (NFNLGRP_NFTABLES)
    legacy    nobody tells: the number of rules and the size of each table are asked for once a second
              (IPT_SO_GET_INFO, a few microseconds each); a flush shows, a rule replaced by another doesn't
    routes    rtnetlink tells of routes, and of links, with which IPv4 routes go without a word

What changed isn't told: whoever listens reads back. Sets have no events at all. Hearing must cost nothing, since a
pod's link alone is a dozen messages: the kernel keeps them until the socket is read, a few times a second, and only
the first bytes of each are looked at.

Sources: linux/netfilter/nfnetlink.h; linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h; linux/rtnetlink.h.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator

from kernel.batch import NETLINK_NETFILTER, NETLINK_ROUTE, attributes, split
from kernel.errors import KernelError
from kernel.iptables import Backend
from kernel.links import HOST_PREFIX, ROUTE_PROTOCOL
from kernel.tables import Family, TableName

_POLL_S = 1.0
_PAUSE_S = 0.3
"""Between two reads of what has piled up; programs change things in several steps anyway."""
_NFNLGRP_NFTABLES = 7
_RTNLGRP_LINK, _RTNLGRP_IPV4_ROUTE, _RTNLGRP_IPV6_ROUTE = 1, 7, 11
_NEWLINK, _DELLINK, _NEWROUTE = 16, 17, 24
_IFINFOMSG_BYTES = 16
_IFLA_IFNAME = 3
_DATAGRAM_BYTES = 1 << 16
_PROTOCOL_OFFSET = 5
"""rtm_protocol in struct rtmsg."""
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_SO_GET_INFO = 64
"""IPT_SO_GET_INFO and IP6T_SO_GET_INFO: IPT_BASE_CTL and IP6T_BASE_CTL are both 64."""
_INFO_BYTES = 84
"""struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size."""
_POLLED = (TableName.RAW, TableName.MANGLE, TableName.FILTER)
_libc = ctypes.CDLL(None, use_errno=True)


async def table_changes(backend: Backend) -> AsyncIterator[None]:
    """Something for each change of a table, without end.

    Raises:
        KernelError: this process may not ask (CAP_NET_ADMIN).
    """
    changes = _generations() if backend is Backend.NFT else _sizes()
    async for _ in changes:
        yield


async def route_changes() -> AsyncIterator[None]:
    """Something for each change of routes or links that isn't a pod's link or a route that we added, without end.

    Raises:
        KernelError: the kernel doesn't tell.
    """
    groups = (_RTNLGRP_LINK, _RTNLGRP_IPV4_ROUTE, _RTNLGRP_IPV6_ROUTE)
    async for data in _multicast(NETLINK_ROUTE, groups):
        if not data or any(_matters(kind, body) for _, kind, _, body in split(data)):
            yield


def _matters(kind: int, body: bytes) -> bool:
    if kind in (_NEWLINK, _DELLINK):
        name = attributes(body[: _IFINFOMSG_BYTES + 32], _IFINFOMSG_BYTES).get(_IFLA_IFNAME, b"")
        return not name.startswith(HOST_PREFIX.encode())
    return kind != _NEWROUTE or body[_PROTOCOL_OFFSET] != ROUTE_PROTOCOL


async def _generations() -> AsyncIterator[None]:
    async for _ in _multicast(NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,)):
        yield


async def _multicast(protocol: int, groups: tuple[int, ...]) -> AsyncIterator[bytes]:
    """Datagrams of multicast groups, in bursts; an empty one where some were lost.

    Raises:
        KernelError: the kernel doesn't tell.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol) as sock:
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        while True:
            try:
                yield await loop.sock_recv(sock, _DATAGRAM_BYTES)
                for data in _waiting(sock):
                    yield data
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(f"changes can't be heard: {error}") from error
                yield b""  # events were lost: all the more reason to look
            await asyncio.sleep(_PAUSE_S)


def _waiting(sock: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(_DATAGRAM_BYTES)


async def _sizes() -> AsyncIterator[None]:
    before = [table_info(family, table) for family in Family for table in _POLLED]
    while True:
        await asyncio.sleep(_POLL_S)
        now = [table_info(family, table) for family in Family for table in _POLLED]
        if now != before:
            yield
        before = now


def table_info(family: Family, table: TableName) -> bytes:
    """What legacy iptables says of a table in few bytes (struct ipt_getinfo); empty where there is no such table.

    Raises:
        KernelError: this process may not ask.
    """
    v4 = family is Family.IPV4
    level = socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6
    info = ctypes.create_string_buffer(table.value.encode(), _INFO_BYTES)
    length = ctypes.c_uint32(_INFO_BYTES)
    try:
        with socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            failed = _libc.getsockopt(sock.fileno(), level, _SO_GET_INFO, info, ctypes.byref(length))
            code = ctypes.get_errno() if failed else 0
    except OSError as error:
        code = error.errno or errno.EPERM
    if code in (errno.ENOENT, errno.ENOPROTOOPT):
        return b""
    if code:
        raise KernelError(f"legacy {table.value} can't be asked for its size: {os.strerror(code)}")
    return info.raw
