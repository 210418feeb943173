"""Pods that have nothing to do with a fault, and must not notice it: api may talk to db, web may not.

api and db exchange a datagram every 10 ms in each family from first to last, so a route, a rule or a set member that
is missing for a moment is a datagram that is lost.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.probe import probe
from tests.faults.runtime import Container, addresses
from tests.host import Host

LABELS = {"app": "db"}
"""Of the pods that a fault test attaches: the policy isolates them."""
_PORT = 8080
_FLOW_PORT = 53
_PROBE_S = 2.0
_SILENT_S = 0.3
_ROOT = Path(__file__).parents[2]
_POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "db", "namespace": "shop"},
    "spec": {
        "podSelector": {"matchLabels": LABELS},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}],
    },
}
_FLOW = """
import select, socket, sys, time
socks = []
for address in sys.argv[2:]:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, int(sys.argv[1])))
    sock.settimeout(2)
    socks.append(sock)
sent = lost = 0
while True:
    for sock in socks:
        sock.send(b"x"); sent += 1
        try: sock.recv(10)
        except OSError: lost += 1
    if select.select([sys.stdin], [], [], 0.01)[0]:
        if not sys.stdin.readline(): break
        print(sent, lost, flush=True)
"""


class Bystanders:
    """api, db and web, attached, and the flow between the first two."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.api, self.db, self.web = (
            Container(host, name, {"app": name}, host.pod()) for name in ("api", "db", "web")
        )
        self.of_db: list[str] = []
        self._children: list[subprocess.Popen[str]] = []
        self._sent = self._lost = 0

    def start(self) -> None:
        """Attach them, and let them talk."""
        self._host.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
            _POLICY,
        )
        for container in (self.api, self.web):
            container.add()
        self.of_db = addresses(self.db.add())
        serve = self._inside(self.db, "-m", "lab.serve", f"{_PORT}/TCP", f"{_FLOW_PORT}/UDP")
        assert serve.stdout is not None
        assert serve.stdout.readline() == "ready\n"
        self._flow = self._inside(self.api, "-c", _FLOW, str(_FLOW_PORT), *self.of_db)
        self.did_not_notice()

    def did_not_notice(self) -> None:
        """api is answered, web isn't, and no datagram was lost since this was asked last."""
        for address in self.of_db:
            assert self.hears(self.api, address) == "open"
            assert self.hears(self.web, address, _SILENT_S) == "silent"
        assert self._flow.stdin is not None
        assert self._flow.stdout is not None
        self._flow.stdin.write("\n")
        self._flow.stdin.flush()
        sent, lost = map(int, self._flow.stdout.readline().split())
        before, self._sent, self._lost = (self._sent, self._lost), sent, lost
        assert sent > before[0]
        assert lost == before[1]

    def hears(self, source: Container, address: str, wait_s: float = _PROBE_S, port: int = _PORT) -> str:
        """What a bystander hears of a TCP port."""
        return source.namespace.inside(lambda: probe(address, port, "TCP", wait_s))

    def stop(self) -> None:
        """End what runs in them."""
        for child in self._children:
            child.kill()
            child.communicate()

    def _inside(self, container: Container, *arguments: str) -> "subprocess.Popen[str]":
        command = ("nsenter", f"--net={container.namespace.path}", sys.executable, *arguments)
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=_ROOT)
        self._children.append(child)
        return child


@contextmanager
def bystanders(host: Host) -> Iterator[Bystanders]:
    """Bystanders on a host whose agent serves."""
    made = Bystanders(host)
    try:
        made.start()
        yield made
    finally:
        made.stop()
