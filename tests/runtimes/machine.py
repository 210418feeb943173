"""A machine for a container runtime: a test host's network, with mounts and processes of its own.

    the test host's network namespace (the agent runs there, with the real machine's mounts)
      └─ a mount and a PID namespace
           empty: /run, /dev/shm, /etc/{cni,containers}, /var/lib/{cni,containerd,containers}; tortie in /opt/cni/bin
           all else of /etc, /opt and /var below overlays, so that no write leaves here
           PID 1 is `cat`, whose input the test holds: when the test ends, however it ends, so does all in here

Runtimes start daemons (shims, conmon) that are to outlive them; none outlives its PID namespace. `/run/tortie` is the
host's folder, so the plugin finds the agent at its default place, whatever environment a runtime gives it.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.host import RELAY, RELAY_IPAM, Host, Said
from tests.runtimes.processes import living

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BIN = "/opt/cni/bin"
"""Where plugins are in here; `ctr` looks nowhere else but in /usr/lib/cni."""
CONFLIST = "/etc/cni/net.d/10-tortie.conflist"
_LIMIT_S = 120
_PATIENCE_S = 30.0
_CGROUPS = Path("/sys/fs/cgroup")
_numbers = count()

# Overlays first: a folder that the real machine lacks is then made in the overlay. PID 1 ignores SIGCHLD, so that the
# kernel itself reaps what daemons leave: podman takes a zombie for a living conmon.
_SETUP = f"""
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
for folder in etc opt var; do
    over=/run/.over/$folder
    mkdir -p $over/upper $over/work
    mount -t overlay -o lowerdir=/$folder,upperdir=$over/upper,workdir=$over/work overlay /$folder
done
ln -sfn /run /var/run
for folder in /etc/cni /etc/containers /opt/cni /var/lib/cni /var/lib/containerd /var/lib/containers; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
mkdir -p /run/netns /run/lock /etc/cni/net.d {BIN}
ln -s "$1" /run/tortie
echo ready
exec env --ignore-signal=CHLD cat
"""


@dataclass
class Machine:
    """See the module."""

    host: Host
    holder: "subprocess.Popen[bytes]"
    cgroup: str
    """The cgroup, with its slash, that a test's containers are put below; nobody else uses the name."""
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    pid_namespace: str = ""
    at_first: frozenset[str] = frozenset()
    logged_before: int = 0

    @property
    def root(self) -> Path:
        """The root folder in here, as the test sees it."""
        return Path(f"/proc/{self.holder.pid}/root")

    def write(self, path: str, content: str) -> None:
        """A file in here."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def plugins(self, folder: Path, *names: str) -> None:
        """Plugins beside tortie."""
        for name in names:
            shutil.copy(folder / name, self.root / BIN.lstrip("/"))

    def conflist(self, *others: Mapping[str, object], **changes: object) -> None:
        """The network that runtimes find: tortie with both families, and other plugins after it."""
        ours = {"type": "tortie", "policy": {"type": "k8s"}, "ipam": {"assign_ipv4": True, "assign_ipv6": True}}
        network = {"cniVersion": "1.0.0", "name": "tortie", "plugins": [ours, *others], **changes}
        self.write(CONFLIST, json.dumps(network))

    def record_calls(self) -> None:
        """From now on `calls` tells of each call of tortie."""
        (self.root / "run/plugin").mkdir()
        shutil.copy(RELAY, self.root / "run/plugin")
        script = self.root / BIN.lstrip("/") / RELAY.name
        script.write_text('#!/bin/sh\n{ env -0 | tr "\\n\\0" " \\n"; echo; } >>/run/calls\nexec /run/plugin/tortie\n')

    def calls(self) -> list[dict[str, str]]:
        """Their environments, but for VERSION's."""
        blocks = (self.root / "run/calls").read_text().split("\n\n")
        found = [dict(row.split("=", 1) for row in block.splitlines()) for block in blocks if block]
        return [call for call in found if call["CNI_COMMAND"] != "VERSION"]

    # Programs

    def enter(self) -> tuple[str, ...]:
        """The command that runs another in here, with an environment that says nothing."""
        inside = f"/proc/{self.holder.pid}/ns"
        spaces = (f"--mount={inside}/mnt", f"--pid={inside}/pid_for_children", f"--net={inside}/net")
        return ("nsenter", *spaces, "--", "env", "-i", f"PATH={PATH}", "HOME=/root")

    def said(self, *argv: str, **environment: str) -> Said:
        """Run a program in here to its end."""
        command = (*self.enter(), *(f"{name}={value}" for name, value in environment.items()), *argv)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
        return Said(done.returncode, done.stdout, done.stderr)

    def run(self, *argv: str, **environment: str) -> str:
        """The same, for what must succeed; gives standard output."""
        said = self.said(*argv, **environment)
        if said.status:
            raise AssertionError(f"{argv} ended with {said.status}: {said.err or said.out}")
        return said.out

    def start(self, *argv: str) -> "subprocess.Popen[bytes]":
        """Start a program in here that runs until its own end or the test's; its log is beside the agent's."""
        with (self.host.place / f"{Path(argv[0]).name}.log").open("ab") as log:
            started = subprocess.Popen((*self.enter(), *argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(started)
        return started

    def kill(self, name: str, number: int) -> None:
        """End what the test has started, by its name, with a signal."""
        parents = [process.pid for process in self.started]
        for one in living():
            if one.parent in parents and one.name == name:
                os.kill(one.pid, number)
                self.started[parents.index(one.parent)].wait(30)

    # What is there

    def log(self) -> str:
        """What the agent has logged for this test."""
        return self.host.log()[self.logged_before :]

    def left(self) -> list[str]:
        """What containers have left in here: processes, mounts, namespaces, cgroups."""
        return sorted((self._traces() - self.at_first) | set(map(str, self.cgroups())))

    def _traces(self) -> frozenset[str]:
        mounts = Path(f"/proc/{self.holder.pid}/mounts").read_text().splitlines()
        return frozenset(
            {"mount " + row.split()[1] for row in mounts}
            | {"netns " + path.name for path in (self.root / "run/netns").iterdir()}
            | {"process " + name for name in self.processes()}
        )

    def processes(self) -> list[str]:
        """What runs in here beside PID 1 and what the test itself has started."""
        known = {self.holder.pid, *(process.pid for process in self.started)}
        ours = (one for one in living() if one.namespace == self.pid_namespace)
        return sorted(one.name for one in ours if one.parent not in known)

    def cgroups(self) -> list[Path]:
        """Cgroups of containers; not those that podman makes above them and keeps."""
        return [path for path in self._all_cgroups() if path.name not in ("conmon", self.cgroup.strip("/"))]

    def _all_cgroups(self) -> list[Path]:
        roots = [path for path in _CGROUPS.rglob(self.cgroup.strip("/")) if path.is_dir()]
        return roots + [path for root in roots for path in root.rglob("*") if path.is_dir()]

    def end(self) -> None:
        """End everything in here."""
        if self.holder.stdin is not None:
            self.holder.stdin.close()
        for process in (self.holder, *self.started):
            process.wait(30)
        until_empty(lambda: [path for path in sorted(self._all_cgroups(), reverse=True) if not _removed(path)])


def _removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def until_empty(look: Callable[[], object]) -> None:
    """Look until there is nothing.

    Raises:
        AssertionError: there is something after 30 s; says what.
    """
    limit = time.monotonic() + _PATIENCE_S
    while found := look():
        assert time.monotonic() < limit, f"there is still {found}"
        time.sleep(0.05)


@contextmanager
def machines(host: Host) -> Iterator[Machine]:
    """A machine on this host's network; whatever is in it ends with it."""
    spaces = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    holder = subprocess.Popen(
        (*host.enter(), *spaces, "sh", "-c", _SETUP, "sh", str(host.place)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    machine = Machine(host, holder, f"/tortie-test-{os.getpid()}-{next(_numbers)}")
    with holder:
        try:
            ready = holder.stdout.readline() if holder.stdout else b""
            assert ready == b"ready\n", "the machine's mounts could not be made"
            machine.pid_namespace = os.readlink(f"/proc/{holder.pid}/ns/pid_for_children")
            machine.plugins(RELAY.parent, RELAY.name, RELAY_IPAM.name)
            machine.at_first = machine._traces()
            yield machine
        finally:
            machine.end()
