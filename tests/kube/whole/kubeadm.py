"""A control plane that `kubeadm init` makes: one node, whose API server, etcd, scheduler, controllers are static pods.

    node-1 ── containerd, kubelet (started as systemd would start it) ──► static pods, from images of our binaries

kubeadm does everything of `init` but its two add-ons: kube-proxy runs as on other nodes of tests (in a pod it would set
limits of the whole kernel), CoreDNS not at all. The kubelet's configuration is what keeps it in its cgroup, so it is
given to kubeadm in a file, where a person gives flags.

Sources: kubeadm.k8s.io/v1beta4; `kubeadm config images list`; k8s.io/release's 10-kubeadm.conf (a kubelet's start).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci import oci
from tests.kube.programs import (
    APISERVER,
    CONTROLLER_MANAGER,
    ETCD,
    KUBEADM,
    KUBECTL,
    KUBELET,
    KUBERNETES,
    PROXY,
    SCHEDULER,
)
from tests.kube.whole import addresses, cgroups, credentials, images, settings
from tests.kube.whole.fabric import Fabric
from tests.kube.whole.machine import Machine
from tests.kube.whole.node import MOUNTS, Node

_PROGRAMS = {
    "kube-apiserver": APISERVER,
    "kube-controller-manager": CONTROLLER_MANAGER,
    "kube-scheduler": SCHEDULER,
    "etcd": ETCD,
}
_CONFIG = "/etc/kubernetes/kubeadm.yaml"
ADMIN = "/etc/kubernetes/admin.conf"
_VERSION = KUBERNETES.name.removeprefix("kubernetes-")
_LIMIT_S = 300.0
_NUMBER = 900
"""Of its cgroup; clusters of the same run count from 0."""
_KUBELET = f"""
until [ -e /var/lib/kubelet/kubeadm-flags.env ]; do sleep 0.1; done
. /var/lib/kubelet/kubeadm-flags.env
exec {KUBELET} --config=/var/lib/kubelet/config.yaml --kubeconfig=/etc/kubernetes/kubelet.conf \
    --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf $KUBELET_KUBEADM_ARGS
"""


@dataclass(frozen=True, slots=True)
class Made:
    """What there is after `kubeadm init`."""

    node: Node
    said: str
    """What kubeadm printed."""

    def kubectl(self, *arguments: object) -> str:
        """As kubeadm's administrator, on the node."""
        return self.node.run(KUBECTL, "--kubeconfig", ADMIN, *arguments)


def missing() -> str:
    """Why none can be had; empty if one can."""
    return "" if KUBEADM.exists() else f"there is no {KUBEADM}: sh ci/peers.sh kubernetes"


@contextmanager
def made() -> Iterator[Made]:
    """A machine with a control plane by kubeadm, ended and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{cgroups.PREFIX}-kubeadm-"))
    name = f"{cgroups.PREFIX}-{os.getpid()}-{_NUMBER}"
    known = credentials.make(folder / "pki", ("node-1",))
    fabric = Fabric(Machine("fabric", folder / "fabric"), known, folder)
    node = Node(Machine("node-1", folder / "node-1"), (addresses.node(1),), f"{name}/node-1", known)
    try:
        cgroups.remove_abandoned()
        fabric.begin()
        node.machine.begin(MOUNTS)
        fabric.join(node.machine, node.addresses)
        node.start_containerd()
        for archive in images.archives():
            node.load(archive)
        yield Made(node, _init(node, folder))
    finally:
        for machine in (node.machine, fabric.machine):
            machine.end()
        cgroups.remove(name)
        shutil.rmtree(folder)


def _init(node: Node, folder: Path) -> str:
    _load_images(node, folder)
    cgroups.make(node.cgroup)
    node.machine.write("/etc/kubernetes/resolv.conf", f"nameserver {addresses.DNS_SERVICE}\n")
    node.machine.write(_CONFIG, "\n---\n".join(map(json.dumps, _configuration(node))))
    kubelet = node.machine.program("kubelet", "sh", "-c", _KUBELET)
    kubelet.start()
    # It asks for a swapless machine, free ports of the real one, a systemd: preflight's business, not a network's.
    options = ("--skip-phases=addon/coredns,addon/kube-proxy", "--ignore-preflight-errors=all")
    said = node.machine.said(KUBEADM, "init", "--config", _CONFIG, *options, timeout_s=_LIMIT_S)
    if said.status:
        raise AssertionError(f"{said.out}{said.err}\n{kubelet.tail()}")
    proxy = settings.proxy("iptables", node.name, node.address, Path(ADMIN))
    node.machine.write("/etc/kubernetes/proxy.yaml", json.dumps(proxy))
    node.machine.program("kube-proxy", PROXY, "--config", "/etc/kubernetes/proxy.yaml").start()
    return said.out


def _configuration(node: Node) -> tuple[dict[str, object], ...]:
    version = {"apiVersion": "kubeadm.k8s.io/v1beta4"}
    registration = {
        "name": node.name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        "kubeletExtraArgs": [{"name": "hostname-override", "value": node.name}],
    }
    networking = {"podSubnet": "10.244.0.0/16"}
    kubelet = settings.kubelet(node.address, node.cgroup, Path("/etc/kubernetes/pki/ca.crt"))
    # kubeadm looks for the kubelet at 127.0.0.1.
    kubelet |= {"address": "0.0.0.0", "staticPodPath": "/etc/kubernetes/manifests"}  # noqa: S104
    return (
        {
            **version,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": node.address},
            "nodeRegistration": registration,
        },
        {**version, "kind": "ClusterConfiguration", "kubernetesVersion": _VERSION, "networking": networking},
        kubelet,
    )


def _load_images(node: Node, folder: Path) -> None:
    """The images that kubeadm's static pods name, made of our binaries."""
    for name in node.run(KUBEADM, "config", "images", "list", "--kubernetes-version", _VERSION).split():
        what = name.rpartition("/")[2].partition(":")[0]
        if what in _PROGRAMS:
            archive, layer = folder / f"{what}.tar", folder / f"{what}.layer"
            places = map(oci.Folder, ("dev", "etc", "proc", "sys", "tmp", "var/run"))
            oci.layer(layer, [oci.File(f"usr/local/bin/{what}", _PROGRAMS[what]), *places])
            oci.write(archive, name, [layer], {"Env": ["PATH=/usr/local/bin"]})
            node.load(archive)
            archive.unlink()
            layer.unlink()
