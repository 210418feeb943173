"""A whole Kubernetes on one machine, in namespaces: what a cluster's administrator meets before there is a network.

    fabric (bridge, etcd, kube-apiserver, kube-controller-manager, kube-scheduler)
      ├── node-1 (containerd, kubelet, kube-proxy)         nodes are NotReady until there is a CNI configuration
      ├── node-2
      └── node-3

    with Cluster.started() as cluster:
        cluster.load(archive); cluster.kubectl("apply", "-k", folder); cluster.wait_ready()

Clusters may stand side by side: nothing of one has a name that another could meet, but for cgroups, which carry the
run's PID and a number. `python -m tests.kube.whole` holds one for a person to look at.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.host import NEWEST_PLUGINS, Said
from tests.kube import programs
from tests.kube.certs import Certs
from tests.kube.programs import KUBECTL
from tests.kube.server import wait_for
from tests.kube.whole import addresses, cgroups, credentials, images
from tests.kube.whole.api import Api, Document
from tests.kube.whole.credentials import ADMIN
from tests.kube.whole.fabric import Fabric
from tests.kube.whole.machine import Machine, ran, succeeded
from tests.kube.whole.node import MOUNTS, Node

_LIMIT_S = 150.0
_TOOLS = ("containerd", "ctr", "runc", "busybox", "curl", "nc", "ip", "iptables", "nft", "openssl", "sysctl")
_numbers = itertools.count()


def missing() -> str:
    """Why no cluster can be had here; empty if one can."""
    if os.getuid() != 0:
        return "a cluster's nodes are made as root"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    absent = [name for name in _TOOLS if not shutil.which(name, path=path)]
    absent += [str(one) for one in (programs.KUBELET, programs.AGNHOST, NEWEST_PLUGINS) if not one.exists()]
    if absent:
        return f"there is no {', '.join(absent)}: sh ci/peers.sh plugins kubernetes"
    return programs.missing() or cgroups.missing()


class Cluster:
    """See the module. Made stopped."""

    def __init__(self, size: int = 3, *, proxy: str = "iptables") -> None:
        self.name = f"{cgroups.PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.proxy = proxy
        names = tuple(f"node-{number}" for number in range(1, size + 1))
        self._credentials = credentials.make(self.folder / "pki", names)
        self.fabric = Fabric(Machine("fabric", self.folder / "fabric"), self._credentials, self.folder)
        self._departed: tuple[Node, ...] = ()
        self.nodes = tuple(
            Node(
                Machine(name, self.folder / name),
                addresses.node(number),
                f"{self.name}/{name}",
                self._credentials,
            )
            for number, name in enumerate(names, 1)
        )

    @classmethod
    @contextmanager
    def started(cls, size: int = 3, *, proxy: str = "iptables") -> Iterator["Cluster"]:
        """One that runs, and is closed at the end."""
        cluster = cls(size, proxy=proxy)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()

    def start(self) -> None:
        """Everything; returns when every node has registered and pods can be made, though none is ready."""
        cgroups.remove_abandoned()
        archives = images.archives()
        self.fabric.begin()
        self.fabric.start()
        self._each(lambda node: self._begin(node, archives))
        self.fabric.start_controllers()
        for node in self.nodes:
            node.start_kubelet()
            node.start_proxy(self.proxy)
        wait_for("nodes", lambda: len(self.api.items("/api/v1/nodes")) == len(self.nodes), self.node(1).kubelet.log)
        wait_for(
            "the default account", self._has_default_account, self.folder / "fabric" / "kube-controller-manager.log"
        )

    def _begin(self, node: Node, archives: Sequence[Path]) -> None:
        node.machine.begin(MOUNTS)
        self.fabric.join(node.machine, node.address)
        node.start_containerd()
        for archive in archives:
            node.load(archive)

    def _has_default_account(self) -> bool:
        return self.api.ask("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200

    def close(self) -> None:
        """End it all, whatever state it is in; nothing happens the second time."""
        for machine in self.machines:
            machine.end()
        cgroups.remove(self.name)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    # What it has

    @property
    def api(self) -> Api:
        return self.fabric.api

    @property
    def machines(self) -> tuple[Machine, ...]:
        return (*(node.machine for node in (*self.nodes, *self._departed)), self.fabric.machine)

    @property
    def certs(self) -> Certs:
        """Of the control plane, whose CA signs whatever else a test needs."""
        return self._credentials.certs

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; it is of use in the fabric's network."""
        return self._credentials.kubeconfig(ADMIN)

    def node(self, which: int | str) -> Node:
        """By its number, from 1, or its name."""
        name = f"node-{which}" if isinstance(which, int) else which
        return next(node for node in self.nodes if node.name == name)

    def cut_off(self, name: str) -> None:
        """The end of a node's machine, as by a power cut; the API isn't told."""
        gone = self.node(name)
        self.fabric.leave(name)
        gone.machine.end()
        self.nodes = tuple(node for node in self.nodes if node is not gone)
        self._departed += (gone,)

    def use_proxy(self, mode: str) -> None:
        """kube-proxy in another mode on every node; nothing happens where it is so."""
        if mode != self.proxy:
            for node in self.nodes:
                node.start_proxy(mode)
            self.proxy = mode

    def load(self, archive: Path) -> None:
        """An image, for every node."""
        self._each(lambda node: node.load(archive))

    def _each(self, work: Callable[[Node], None]) -> None:
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as pool:
            list(pool.map(work, self.nodes))

    # kubectl

    def kubectl(self, *arguments: object, stdin: str = "") -> str:
        """Run kubectl as the administrator, for what must succeed; it sees the real machine's files."""
        return succeeded(self.kubectl_said(*arguments, stdin=stdin), ("kubectl", *arguments))

    def kubectl_said(self, *arguments: object, stdin: str = "") -> Said:
        """The same, however it ends."""
        options = ("--kubeconfig", self.kubeconfig, f"--cache-dir={self.folder / 'discovery'}")
        command = (*self.fabric.machine.enter(only_network=True), KUBECTL, *options, *arguments)
        return ran([str(word) for word in command], stdin, _LIMIT_S)

    # Waiting

    def ready_nodes(self) -> frozenset[str]:
        """The names of those whose kubelet says Ready."""
        return frozenset(one["metadata"]["name"] for one in self.api.items("/api/v1/nodes") if _is_true(one, "Ready"))

    def wait_ready(self, *names: str) -> None:
        """Until these nodes are Ready; without a name, all."""
        wanted = frozenset(names or (node.name for node in self.nodes))
        wait_for(f"{sorted(wanted)} ready", lambda: wanted <= self.ready_nodes(), self.node(1).kubelet.log)

    def pods(self, selector: str = "", namespace: str = "default") -> list[Document]:
        """The pods that a label selector finds."""
        return self.api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector.replace('=', '%3D')}")

    def wait_pods(self, selector: str, count: int, namespace: str = "default") -> list[Document]:
        """Until there are that many pods and all are Ready; gives them, in the order of names."""

        def reached() -> bool:
            found = self.pods(selector, namespace)
            return len(found) == count and all(_is_true(pod, "Ready") for pod in found)

        try:
            wait_for(f"{count} pods of {selector} ready", reached)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._trouble(selector, namespace)}") from None
        return sorted(self.pods(selector, namespace), key=lambda pod: str(pod["metadata"]["name"]))

    def _trouble(self, selector: str, namespace: str) -> str:
        pods = self.kubectl_said("get", "pods", "-o", "wide", "-n", namespace, "-l", selector).out
        events = self.kubectl_said("get", "events", "-n", namespace, "--sort-by=.lastTimestamp").out
        return "\n".join([pods, *events.splitlines()[-30:]])


def _is_true(document: Document, condition: str) -> bool:
    found = document.get("status", {}).get("conditions", [])
    return any(one["type"] == condition and one["status"] == "True" for one in found)
