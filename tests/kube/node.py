"""One Kubernetes node for tests: a real agent on a real API server, its plugin executed as a kubelet's runtime does.

    outside 172.30.0.254 ──── up0 172.30.0.1  (node-1: agent)  tort… ──── eth0 (pods)
      127.0.0.1:PORT of the node ─── Way ─── 127.0.0.1:PORT of the API server

There is no kubelet: tests write Pods and the Kubernetes Node as it would. The way to the API server can be cut.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.request import urlopen

from kernel import netns
from tests.faults.runtime import CONFIG
from tests.host import INSIDE, OUTSIDE, POOLS, Host, Said, pool
from tests.kube.apiserver import TORTIE, ApiServer
from tests.sandbox import Namespace, namespaces

NODE = "node-1"
HTTP = 9470
_WAIT_S = 20.0
_ROLE = "tortie-agent-tests"
_RULES = [
    {"apiGroups": [""], "resources": ["pods/status", "nodes/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]
"""What an agent needs besides what the driver does."""


def eventually(what: str, holds: Callable[[], object]) -> None:
    limit = time.monotonic() + _WAIT_S
    while not holds():
        assert time.monotonic() < limit, f"not within {_WAIT_S:g} s: {what}"
        time.sleep(0.05)


class Way:
    """Passes connections of a namespace's loopback on to this one's, until it is cut."""

    def __init__(self, fd: int, port: int) -> None:
        self._fd = fd
        self._port = port
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        self._listener = netns.run_inside(self._fd, self._listening)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse what comes, end what there is."""
        if self._listener is not None:
            _end(self._listener)
            self._listener = None
        while self._open:
            _end(self._open.pop())

    def _listening(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        return listener

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                inside, _ = listener.accept()
                outside = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            self._open += [inside, outside]
            for ends in ((inside, outside), (outside, inside)):
                threading.Thread(target=_pass, args=ends, daemon=True).start()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    _end(target)


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@dataclass
class KubeHost(Host):
    """A Kubernetes node; `start` its agent."""

    server: ApiServer = field(kw_only=True)
    way: Way = field(kw_only=True)

    @property
    def datastore(self) -> str:
        return f"kubernetes://{self.place / 'kubeconfig'}"

    @property
    def identity(self) -> Sequence[str]:
        return "--node", NODE, "--http", f"127.0.0.1:{HTTP}"

    def page(self, path: str) -> tuple[int, str]:
        """What the agent answers a probe."""

        def ask() -> tuple[int, str]:
            try:
                with urlopen(f"http://127.0.0.1:{HTTP}{path}", timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except OSError as error:
                body = getattr(error, "read", bytes)()
                return getattr(error, "code", 0), body.decode()

        return self.namespace.inside(ask)

    def get(self, path: str) -> dict[str, Any]:
        """An object as the API has it; empty where there is none."""
        status, answer = self.server.ask("GET", path)
        return cast("dict[str, Any]", answer) if status == 200 else {}

    def events(self, reason: str) -> list[dict[str, Any]]:
        found = self.get("/api/v1/events")["items"]
        return [one for one in found if one["reason"] == reason]

    # What a kubelet does

    def make_pod(self, name: str, node: str = NODE, **metadata: object) -> str:
        """A Pod that is bound to a node: its uid."""
        ports = [{"name": "http", "containerPort": 8080}]
        body = {
            "metadata": {"name": name, "namespace": "shop", **metadata},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none", "ports": ports}]},
        }
        return cast("str", self.server.make("/api/v1/namespaces/shop/pods", body)["metadata"]["uid"])

    def patch(self, path: str, patch: object) -> None:
        status, answer = _patched(self.server, path, patch)
        assert status == 200, answer

    def tell_status(self, name: str, *addresses: str, phase: str = "Running") -> None:
        """What a kubelet says of a pod, at last."""
        told = {"podIP": addresses[0], "podIPs": [{"ip": one} for one in addresses]} if addresses else {}
        self.patch(f"/api/v1/namespaces/shop/pods/{name}/status", {"status": {"phase": phase, **told}})

    def run(self, command: str, pod: str, uid: str, where: Namespace, container: str = "") -> Said:
        """A call of the plugin for a pod."""
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID={uid}"
        return self.call(command, CONFIG, container or f"c-{pod}", where.path, args=args)

    def add(self, pod: str, uid: str, where: Namespace) -> list[str]:
        """ADD, which must succeed: the pod's addresses."""
        said = self.run("ADD", pod, uid, where)
        assert said.status == 0, said.out
        return [one["address"].partition("/")[0] for one in said.json["ips"]]


def _patched(server: ApiServer, path: str, patch: object) -> tuple[int, Any]:
    return server.ask("PATCH", path, patch, content="application/merge-patch+json")


@contextmanager
def kube_hosts(server: ApiServer, place: Any, *, nat: bool = False) -> Iterator[KubeHost]:  # noqa: ANN401
    """A node with its Kubernetes Node and pools; its agent isn't started."""
    _allow(server)
    with namespaces("knode", "kout") as [inside, outside]:
        far = outside.name
        inside.ip(f"link add up0 type veth peer name up1 netns {far}", "link set up0 up")
        inside.ip(f"addr add {INSIDE[0]}/24 dev up0", f"addr add {INSIDE[1]}/64 dev up0 nodad")
        inside.ip(f"route add default via {OUTSIDE[0]}", f"route add default via {OUTSIDE[1]}")
        outside.ip("link set up1 up", f"addr add {OUTSIDE[0]}/24 dev up1", f"addr add {OUTSIDE[1]}/64 dev up1 nodad")
        fd = netns.open_namespace(inside.path)
        way = Way(fd, server.port)
        server.kubeconfig(place / "kubeconfig")
        host = KubeHost(place, inside, outside, server=server, way=way)
        register(server)
        for name, cidr in POOLS.items():
            spec = {"cidr": cidr, "natOutgoing": nat}
            server.make("/apis/tortie.dev/v1/ippools", {**pool(name, cidr), "spec": spec})
        try:
            yield host
        finally:
            host.stop(signal.SIGKILL)
            way.cut()
            os.close(fd)
            for name in host.pods:
                subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)


def register(server: ApiServer, name: str = NODE, *addresses: str) -> None:
    """What a kubelet does first."""
    told = [{"type": "InternalIP", "address": one} for one in addresses or INSIDE]
    server.make("/api/v1/nodes", {"metadata": {"name": name}, "status": {"addresses": told}})


def _allow(server: ApiServer) -> None:
    for path, body in (
        ("clusterroles", {"metadata": {"name": _ROLE}, "rules": _RULES}),
        (
            "clusterrolebindings",
            {
                "metadata": {"name": _ROLE},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ROLE},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": TORTIE}],
            },
        ),
    ):
        server.ask("POST", f"/apis/rbac.authorization.k8s.io/v1/{path}", body)
