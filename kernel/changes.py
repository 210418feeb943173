"""Hearing that iptables' tables have changed, whoever changed them.

    nft       nfnetlink tells of every new generation of the rule set (NFNLGRP_NFTABLES)
    legacy    nobody tells: the number of rules and the size of each table are asked for once a second
              (IPT_SO_GET_INFO, a few microseconds each); a flush shows, a rule replaced by another doesn't

What changed isn't told: whoever listens reads back. Sets have no events at all.

Sources: linux/netfilter/nfnetlink.h; linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h.
"""

import asyncio
import ctypes
import errno
import os
import socket
from collections.abc import AsyncIterator

from kernel.errors import KernelError
from kernel.iptables import Backend
from kernel.tables import Family, TableName

_POLL_S = 1.0
_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
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


async def _generations() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER) as sock:
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        while True:
            try:
                await loop.sock_recv(sock, 1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # events were lost: all the more reason to look
                    raise KernelError(f"changes of nft tables can't be heard: {error}") from error
            yield


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
