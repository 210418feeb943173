"""containerd 1.6 on a machine: its configuration, its start and end, and `ctr`.

The configuration says what a machine without CAP_SYS_RESOURCE, AppArmor and systemd needs, and no more.
Source: containerd 1.6 docs/cri/config.md, and trying.
"""

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.host import Said
from tests.runtimes import image
from tests.runtimes.machine import Machine, until_empty

SNAPSHOTTER = "native"
"""Copies folders: works on every file system."""
_CONFIG = """
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "@SOCKET@"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "@SANDBOX@"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "@BIN@"
    conf_dir = "@CONFIG@"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "@SNAPSHOTTER@"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd that runs; it listens where the test can connect too."""

    machine: Machine
    socket: Path

    def ctr(self, *arguments: str) -> Said:
        return self.machine.said(*self.ctr_command(*arguments))

    def ctr_command(self, *arguments: str) -> tuple[str, ...]:
        return ("ctr", "--address", str(self.socket), *arguments)

    def load(self, archive: Path, namespace: str) -> None:
        """The image, for one of containerd's namespaces."""
        imported = self.ctr("--namespace", namespace, "image", "import", "--snapshotter", SNAPSHOTTER, str(archive))
        assert imported.status == 0, imported.err

    def restart(self) -> None:
        """Kill it, and start it again; its containers run on."""
        self.machine.kill("containerd", signal.SIGKILL)
        _start(self)


def configuration(
    listens: Path, sandbox: str, snapshotter: str, cni_bin: str = "/opt/cni/bin", cni_config: str = "/etc/cni/net.d"
) -> str:
    """A containerd's that listens at a socket and makes each pod's sandbox of an image."""
    values = {"SOCKET": listens, "SANDBOX": sandbox, "SNAPSHOTTER": snapshotter, "BIN": cni_bin, "CONFIG": cni_config}
    text = _CONFIG
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def containerd(machine: Machine) -> Containerd:
    """Start containerd on the machine, with whose end it ends."""
    made = Containerd(machine, machine.host.place / "containerd.sock")
    machine.write("/etc/containerd/config.toml", configuration(made.socket, image.NAME, SNAPSHOTTER))
    _start(made)
    return made


def _start(daemon: Containerd) -> None:
    daemon.socket.unlink(missing_ok=True)
    daemon.machine.start("containerd", "--config", "/etc/containerd/config.toml")
    until_empty(lambda: _why_not_up(daemon.socket))


def _why_not_up(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError as error:
            return f"no answer at {path}: {error}"
    return ""
