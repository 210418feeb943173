"""A Kubernetes control plane for tests: etcd, and API servers on it.

    etcd ◄── cached      as people run it
         ◄── direct      the same cluster without a watch cache: what etcd has compacted is gone at once
         ◄── other       another cluster: it has its own prefix, so its own kube-system namespace

Each starts when it is first asked for, and lives until the process ends.
"""

import atexit
import shutil
import subprocess
import tempfile
from functools import cache, cached_property
from pathlib import Path

from tests.host import ROOT
from tests.kube import certs
from tests.kube.apiserver import ADMIN_TOKEN, TORTIE, ApiServer
from tests.kube.programs import ETCD, KUBECTL
from tests.kube.server import wait_for
from tests.servers.etcd import Etcd

CRDS = ROOT / "manifests" / "crds"
NAMESPACES = ("shop", "bank")
"""What tests write into: nobody else makes a namespace when an object comes."""
_READ = ["get", "list", "watch"]
_WRITE = [*_READ, "create", "update", "delete"]
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": TORTIE},
    "rules": [
        {"apiGroups": ["tortie.dev"], "resources": ["*"], "verbs": _WRITE},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": _WRITE},
        # What installations only read; tests write some of it.
        {"apiGroups": [""], "resources": ["pods", "nodes", "namespaces", "serviceaccounts"], "verbs": _WRITE},
        {"apiGroups": [""], "resources": ["pods/status", "nodes/status"], "verbs": ["update"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _WRITE},
    ],
}
"""What the driver needs for all that the contract suite does."""
_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": TORTIE},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": TORTIE},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": TORTIE}],
}
_ETCD_FLAGS = ("--unsafe-no-fsync", "--watch-progress-notify-interval=100ms")
"""Bookmarks are as new as etcd's last word about its progress; kubeadm says 5 s."""


class ControlPlane:
    """Below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certs = certs.make(folder / "pki")
        self.etcd = Etcd(ETCD, folder / "etcd", flags=_ETCD_FLAGS)
        self.etcd.start()
        self._servers: list[ApiServer] = []

    @cached_property
    def cached(self) -> ApiServer:
        """As people run it."""
        return self.start("cached")

    @cached_property
    def direct(self) -> ApiServer:
        """Without a watch cache."""
        return self.start("direct", "--watch-cache=false")

    @cached_property
    def other(self) -> ApiServer:
        """Of another cluster."""
        return self.start("other", prefix="/other")

    def start(self, name: str, *flags: str, prefix: str = "/registry") -> ApiServer:
        """One more, with the CRDs and the namespaces that tests use."""
        server = ApiServer(name, self.folder, self.certs, self.etcd, *flags, prefix=prefix)
        self._servers.append(server)
        server.server.start()
        install(server, self.folder)
        return server

    def stop(self) -> None:
        """Kill everything."""
        for server in self._servers:
            server.server.kill()
        self.etcd.stop()


def install(server: ApiServer, folder: Path) -> None:
    """The CRDs as people install them, and namespaces; what is there already stays."""
    config = server.kubeconfig(folder / "admin.kubeconfig", {"token": ADMIN_TOKEN})
    kubectl(config, "apply", "-k", CRDS)
    kubectl(config, "wait", "--for=condition=Established", f"--timeout={_ESTABLISHED_S}s", "crd", "--all")
    for name in NAMESPACES:
        server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    for path, body in (("clusterroles", ROLE), ("clusterrolebindings", _BINDING)):
        server.ask("POST", f"/apis/rbac.authorization.k8s.io/v1/{path}", body)
    wait_for("the custom resources", lambda: _serves_ours(server))


def _serves_ours(server: ApiServer) -> bool:
    return all(server.ask("GET", path)[0] == 200 for path in ("/apis/tortie.dev/v1", "/apis/tortie.dev/v1/ipblocks"))


def kubectl(config: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run kubectl; its output is text."""
    command = [
        str(KUBECTL),
        "--kubeconfig",
        str(config),
        f"--cache-dir={config.parent / 'discovery'}",
        *map(str, arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr}")
    return done


_ESTABLISHED_S = 60


@cache
def control_plane() -> ControlPlane:
    """The one that this process's tests share."""
    folder = Path(tempfile.mkdtemp(prefix="tortie-kube-"))
    plane = ControlPlane(folder)

    def end() -> None:
        plane.stop()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return plane
