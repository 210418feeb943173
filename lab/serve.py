"""What runs in a pod: a server that listens on the pod's ports until it is ended.

TCP connections are accepted and closed, UDP datagrams and SCTP INITs are answered. It prints `ready` once it listens.

    python -I -m lab.serve 8080/TCP 53/UDP 9999/SCTP
"""

import contextlib
import selectors
import socket
import sys
from collections.abc import Sequence

from lab import sctp

_BACKLOG = 128
_DATAGRAM = 65535
_IP_HEADER_WORDS = 0x0F


def main(arguments: Sequence[str]) -> None:
    """Listen on every PORT/PROTOCOL, in both families, without end."""
    chosen = [(int(port), protocol) for port, _, protocol in (text.partition("/") for text in arguments)]
    waiting = selectors.DefaultSelector()
    for family in (socket.AF_INET, socket.AF_INET6):
        for port, protocol in chosen:
            if protocol != "SCTP":
                waiting.register(_listen(family, port, protocol), selectors.EVENT_READ, protocol)
        if any(protocol == "SCTP" for _, protocol in chosen):
            raw = socket.socket(family, socket.SOCK_RAW, sctp.PROTOCOL)
            waiting.register(raw, selectors.EVENT_READ, "SCTP")
    ports = frozenset(port for port, protocol in chosen if protocol == "SCTP")
    print("ready", flush=True)
    while True:
        for key, _ in waiting.select():
            if isinstance(key.fileobj, socket.socket):
                with contextlib.suppress(OSError):
                    _answer(key.fileobj, str(key.data), ports)


def _listen(family: int, port: int, protocol: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", port))
    if protocol == "TCP":
        sock.listen(_BACKLOG)
    return sock


def _answer(sock: socket.socket, protocol: str, ports: frozenset[int]) -> None:
    if protocol == "TCP":
        sock.accept()[0].close()
    elif protocol == "UDP":
        data, peer = sock.recvfrom(_DATAGRAM)
        sock.sendto(data, peer)
    else:
        packet, peer = sock.recvfrom(_DATAGRAM)
        reply = sctp.init_ack(_without_ip_header(packet, sock.family), ports)
        if reply is not None:
            sock.sendto(reply, (peer[0], 0))


def _without_ip_header(packet: bytes, family: int) -> bytes:
    """A raw IPv4 socket gives the IP header too, a raw IPv6 socket doesn't."""
    return packet[(packet[0] & _IP_HEADER_WORDS) * 4 :] if family == socket.AF_INET else packet


if __name__ == "__main__":
    main(sys.argv[1:])
