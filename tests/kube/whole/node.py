"""One node: a machine with containerd, a kubelet and kube-proxy, and at first no CNI configuration.

A kubelet takes the machine for its own. So everything it writes to lies in the node's mounts (below), its pods are in a
cgroup of the cluster's, and the sysctls of the kernel that it would set for all are files of the node's own.
"""

import json
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.host import NEWEST_PLUGINS
from tests.kube.programs import KUBELET, PROXY
from tests.kube.whole import addresses, cgroups, settings
from tests.kube.whole.credentials import Credentials
from tests.kube.whole.machine import Machine, Program
from tests.kube.whole.settings import CNI_BIN, CNI_CONFIG, STATIC_PODS

_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet wants (k8s.io/kubernetes pkg/kubelet/cm setupKernelTunables)."""

# Overlays first, so that a folder which the real machine lacks is made in the overlay. containerd's snapshots are
# overlays too, whose upper folders can't be on another: its root is a tmpfs. A fresh sysfs shows the node's links.
MOUNTS = (
    """
mount -t tmpfs tmpfs /run
mkdir -p /run/.over/cgroup
mount --rbind /sys/fs/cgroup /run/.over/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/.over/cgroup /sys/fs/cgroup
umount -R -l /run/.over/cgroup
for folder in etc opt var; do
    over=/run/.over/$folder
    mkdir -p $over/upper $over/work
    mount -t overlay -o lowerdir=/$folder,upperdir=$over/upper,workdir=$over/work overlay /$folder
done
for folder in /dev/shm /etc/cni /opt/cni /var/lib/cni /var/lib/containerd /var/lib/kubelet /var/log/pods; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
"""
    + f"mkdir -p /run/lock /run/netns {CNI_CONFIG} {CNI_BIN} {STATIC_PODS}\n"
    + "sysctl -qw net.ipv4.ip_forward=1\nsysctl -qw net.bridge.bridge-nf-call-iptables=1 || true\n"
    + "".join(
        f"echo {value} > /run/.over/{name.replace('/', '_')}\n"
        f"mount --bind /run/.over/{name.replace('/', '_')} /proc/sys/{name}\n"
        for name, value in _SYSCTLS.items()
    )
)


@dataclass
class Node:
    """Made stopped."""

    machine: Machine
    address: str
    cgroup: str
    credentials: Credentials

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def containerd(self) -> Program:
        return self.machine.programs["containerd"]

    @property
    def kubelet(self) -> Program:
        return self.machine.programs["kubelet"]

    @property
    def proxy(self) -> Program:
        return self.machine.programs["kube-proxy"]

    def run(self, *argv: object, stdin: str = "") -> str:
        """A program in the node, to its end; fails if it does."""
        return self.machine.run(*argv, stdin=stdin)

    # Starting

    def start_containerd(self) -> None:
        """containerd, and the reference plugins beside it, as Kubernetes' packages bring them."""
        for plugin in sorted(NEWEST_PLUGINS.iterdir()):
            self.machine.copy(plugin, f"{CNI_BIN}/{plugin.name}")
        self.machine.write("/etc/containerd/config.toml", settings.CONTAINERD)
        program = self.machine.program("containerd", "containerd", "--config", "/etc/containerd/config.toml")
        program.start()
        program.wait(lambda: self.machine.said("ctr", "version").status == 0)

    def load(self, archive: Path) -> None:
        """An image, from an archive of the real machine."""
        self.ctr("images", "import", "--snapshotter", "overlayfs", archive)

    def start_kubelet(self) -> None:
        """The kubelet; the node registers itself."""
        cgroups.make(self.cgroup)
        authority = self.credentials.certs.authority
        self.machine.write("/etc/kubernetes/resolv.conf", f"nameserver {addresses.DNS_SERVICE}\n")
        self.machine.write(
            "/etc/kubernetes/kubelet.yaml", json.dumps(settings.kubelet(self.address, self.cgroup, authority))
        )
        self.machine.program(
            *("kubelet", KUBELET, "--config=/etc/kubernetes/kubelet.yaml", "--v=2"),
            *("--kubeconfig", self.credentials.kubeconfig(self.name), "--hostname-override", self.name),
            *("--node-ip", self.address),
        ).start()

    def start_proxy(self, mode: str) -> None:
        """kube-proxy in this mode; one that runs in another mode ends, and its rules with it."""
        config = "/etc/kubernetes/proxy.yaml"
        if "kube-proxy" in self.machine.programs:
            self.proxy.kill(signal.SIGTERM)
            self.run(PROXY, "--config", config, "--cleanup")
        self.machine.write(
            config, json.dumps(settings.proxy(mode, self.name, self.address, self.credentials.kubeconfig("proxy")))
        )
        self.machine.program("kube-proxy", PROXY, "--config", config, "--v=2").start()

    # Containers

    def ctr(self, *arguments: object) -> str:
        """containerd's own client, for what the kubelet has made."""
        return self.run("ctr", "--namespace", "k8s.io", *arguments)

    def task(self, container: str) -> int:
        """The PID of a container's first process, as seen in the node; `container` is a status' containerID."""
        number = container.removeprefix("containerd://")
        rows = (line.split() for line in self.ctr("tasks", "list").splitlines())
        return next(int(row[1]) for row in rows if row[0] == number)

    def kill_container(self, container: str) -> None:
        """SIGKILL; the kubelet starts another."""
        self.ctr("tasks", "kill", "--signal", "SIGKILL", container.removeprefix("containerd://"))
