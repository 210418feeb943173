"""Real packets for chains: from which address, how often, and what is heard.

`lab.probe` sends from whatever address the kernel chooses and sends again until it is heard. Here source-based routes
need a source, and the first packet of a pod must arrive.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from tests.sandbox import Namespace

T = TypeVar("T")
HEARD_S = 5.0
"""How long an answer may take on a busy machine; what is heard is heard in a millisecond."""
SILENCE_S = 1.0
"""What has not answered for so long was dropped."""
_AGAIN_S = 0.25
_POLL_S = 0.05
_WORD = b"tortie"


@dataclass(frozen=True, slots=True)
class Question:
    """One port of an address; `once` sends a single datagram and never another."""

    address: str
    port: int
    protocol: str = "TCP"
    source: str = ""
    once: bool = False


def ask(where: Namespace, *questions: Question, seconds: float = HEARD_S) -> list[str]:
    """What `where` hears of each, all at once: `open`, `closed` (refused) or `silent`."""

    def work() -> list[str]:
        with ThreadPoolExecutor(max_workers=len(questions)) as pool:  # its threads are in this thread's namespace
            return list(pool.map(lambda one: _ask(one, seconds), questions))

    return where.inside(work)


def until(wanted: object, look: Callable[[], T], seconds: float = 10.0) -> T:
    """What `look` sees, once it is what is wanted or the time is over."""
    limit = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < limit:
        time.sleep(_POLL_S)
    return seen


@contextmanager
def serving(where: Namespace, *ports: str) -> Iterator[None]:
    """lab.serve on ports such as 80/TCP, in both families."""
    command = ("ip", "netns", "exec", where.name, sys.executable, "-I", "-m", "lab.serve", *ports)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.communicate()


def both(addresses: Iterable[str], *ports: tuple[int, str]) -> list[Question]:
    """Questions for every port of every address."""
    return [Question(address, port, protocol) for address in addresses for port, protocol in ports]


def _ask(question: Question, seconds: float) -> str:
    family = socket.AF_INET6 if ":" in question.address else socket.AF_INET
    kind = socket.SOCK_STREAM if question.protocol == "TCP" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(seconds)
        if question.source:
            sock.bind((question.source, 0))
        try:
            sock.connect((question.address, question.port))
            return "open" if question.protocol == "TCP" or _is_echoed(sock, seconds, once=question.once) else "silent"
        except ConnectionRefusedError:
            return "closed"
        except OSError:
            return "silent"


def _is_echoed(sock: socket.socket, seconds: float, *, once: bool) -> bool:
    limit = time.monotonic() + seconds
    sock.settimeout(seconds if once else min(_AGAIN_S, seconds))
    while time.monotonic() < limit:
        sock.send(_WORD)
        with suppress(TimeoutError):
            return sock.recv(len(_WORD)) == _WORD
        if once:
            break
    return False
