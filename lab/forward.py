"""Servers of this machine, reached by the lab's nodes under the addresses that the machine itself has for them.

A node's namespace has a loopback of its own and no way out of the lab. One process, which stays outside, has a socket
listening in each of the lab's namespaces and passes every connection on:

    node-1  127.0.0.1:5432 ─┐
    node-2  127.0.0.1:5432 ─┼─ this process ── 127.0.0.1:5432 of the machine
    holder  127.0.0.1:5432 ─┘

So one datastore address holds inside and outside, names in certificates included, and the machine's network isn't
touched. A socket belongs to the namespace in which it was made, wherever its process is (network_namespaces(7)).
Unix sockets need none of this, unless they lie below /run, which each node has of its own.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from kernel import netns
from lab.state import SUBNET_IPV4, SUBNET_IPV6, LabError

_PORTS = {"postgresql": 5432, "postgres": 5432, "etcd": 2379, "etcds": 2379}
"""By the scheme of a datastore's address, where it leaves the port out."""
_LOCALHOST = ("127.0.0.1", "::1")
_CHUNK = 1 << 16
_UNDERLAY = (ip_network(f"{SUBNET_IPV4}0/24"), ip_network(f"{SUBNET_IPV6}/64"))


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """Where one listens."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether every namespace has the address already."""
        return ip_address(self.address).is_loopback


def servers(url: str, more: Iterable[str] = ()) -> tuple[Server, ...]:
    """The servers that a datastore's address names, and `more` as HOST:PORT; none for files and unix sockets.

    Raises:
        LabError: one isn't named by an IP address: nothing in a node's namespace resolves names.
    """
    parts = urlsplit(url)
    # A unix socket has its folder for a host, or none but a port.
    named = [text for text in parts.netloc.rpartition("@")[2].split(",") if text and not text.startswith((":", "%2"))]
    found = [one for text in (*named, *more) for one in _servers(text, _PORTS.get(parts.scheme.lower(), 0))]
    return tuple(dict.fromkeys(found))


def _servers(text: str, default_port: int) -> list[Server]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port or default_port
    except ValueError:
        host, port = "", 0
    if not host or not port:
        raise LabError(f"{text!r} is no server", "write HOST:PORT", 2)
    if host == "localhost":
        return [Server(address, port) for address in _LOCALHOST]
    try:
        address = ip_address(host)
    except ValueError:
        raise LabError(f"nodes of a lab can't resolve {host!r}", "give the server's IP address", 2) from None
    if any(address in subnet for subnet in _UNDERLAY if subnet.version == address.version):
        raise LabError(f"{address} is an address of the lab's own nodes", "give the server another", 2)
    return [Server(str(address), port)]


def main(arguments: list[str]) -> None:
    """`python -m lab.forward PID,PID... HOST:PORT...`: says `ready` once every socket listens."""
    pids, *texts = arguments
    wanted = [Server(host.strip("[]"), int(port)) for host, _, port in (text.rpartition(":") for text in texts)]
    asyncio.run(_forward([int(pid) for pid in pids.split(",")], wanted))


async def _forward(pids: list[int], wanted: list[Server]) -> None:
    for pid in pids:
        fd = netns.open_namespace(f"/proc/{pid}/ns/net")
        try:
            listening = [(server, netns.run_inside(fd, partial(_listening, server))) for server in wanted]
        finally:
            os.close(fd)
        for server, sock in listening:
            await asyncio.start_server(partial(_carry, server), sock=sock)
    print("ready", flush=True)
    await asyncio.Event().wait()


def _listening(server: Server) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((server.address, server.port))
    return sock


async def _carry(server: Server, inside: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    """One connection, both ways, until both ends are done."""
    try:
        reader, writer = await asyncio.open_connection(server.address, server.port)
    except OSError:
        out.transport.abort()  # as a server that isn't there: refused
        return
    await asyncio.gather(_pass(inside, writer), _pass(reader, out))
    for one in (writer, out):
        one.close()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        target.write_eof()
    except OSError:
        with contextlib.suppress(OSError):
            target.transport.abort()


if __name__ == "__main__":
    main(sys.argv[1:])
