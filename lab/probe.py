"""One real probe, from wherever it runs: does this port answer.

    python -I -m lab.probe ADDRESS PORT PROTOCOL SECONDS

Prints `open` (answered), `closed` (a refusal came back: packets pass, nobody listens) or `silent` (nothing came back,
which is what a dropped packet looks like). UDP and SCTP are sent again while waiting.
"""

import random
import socket
import sys
import time
from collections.abc import Callable

from lab import sctp

_AGAIN_S = 0.25
_DATAGRAM = 65535


def probe(address: str, port: int, protocol: str, seconds: float) -> str:
    """See the module."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if protocol == "TCP":
        return _tcp(family, address, port, seconds)
    if protocol == "UDP":
        return _udp(family, address, port, seconds)
    return _sctp(family, address, port, seconds)


def _tcp(family: int, address: str, port: int, seconds: float) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
        except ConnectionRefusedError:
            return "closed"
        except OSError:
            return "silent"
        return "open"


def _udp(family: int, address: str, port: int, seconds: float) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if not _connected(sock, address, port):
            return "silent"
        return _again(sock, lambda: sock.send(b"tortie"), lambda data: data == b"tortie", seconds)


def _sctp(family: int, address: str, port: int, seconds: float) -> str:
    source_port = random.randrange(20000, 60000)  # noqa: S311  # only to tell probes apart
    with socket.socket(family, socket.SOCK_RAW, sctp.PROTOCOL) as sock:
        if not _connected(sock, address, 0):
            return "silent"
        header = 0 if family == socket.AF_INET6 else 20
        packet = sctp.init(source_port, port, tag=source_port)
        return _again(
            sock, lambda: sock.send(packet), lambda data: sctp.is_init_ack(data[header:], source_port, port), seconds
        )


def _connected(sock: socket.socket, address: str, port: int) -> bool:
    """Whether there is a way to the address at all."""
    try:
        sock.connect((address, port))
    except OSError:
        return False
    return True


def _again(sock: socket.socket, send: Callable[[], object], is_answer: Callable[[bytes], bool], seconds: float) -> str:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        sock.settimeout(min(_AGAIN_S, seconds))
        try:
            send()
            if is_answer(sock.recv(_DATAGRAM)):
                return "open"
        except ConnectionRefusedError:
            return "closed"
        except TimeoutError:
            continue
        except OSError:
            return "silent"
    return "silent"


if __name__ == "__main__":
    print(probe(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
