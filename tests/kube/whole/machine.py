"""A machine in namespaces: network, mounts, host name and processes of its own, held by one process.

    holder (`cat`, PID 1 in there, whose input the test holds: however the test ends, so does everything in here)
      ├─ programs that were started here, by nsenter
      └─ what those started: containers, shims

No namespace has a name, so nothing has to be removed. Only what lies in cgroups is left, see `cgroups`.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kernel import netns
from tests.host import Said
from tests.kube.server import wait_for
from tests.runtimes.processes import living

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIMIT_S = 120
_SPACES = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
# PID 1 ignores SIGCHLD, so that the kernel reaps what daemons leave behind.
_HOLD = """
set -e
hostname "$1"
ip link set lo up
eval "$2"
mount --make-rshared /
echo ready
exec env --ignore-signal=CHLD cat
"""

T = TypeVar("T")


@dataclass
class Program:
    """A program of a machine, started and killed by tests; each life appends to one log."""

    machine: "Machine"
    command: Sequence[str]
    log: Path
    _entered: "subprocess.Popen[bytes] | None" = None

    @property
    def runs(self) -> bool:
        return self._entered is not None and self._entered.poll() is None

    @property
    def pid(self) -> int:
        """Of the program itself, as seen from outside the machine."""
        parent = self._entered.pid if self._entered else 0
        found = [one.pid for one in living() if one.parent == parent and one.name != "nsenter"]
        if not found:
            raise AssertionError(f"{self.command[0]} doesn't run:\n{self.tail()}")
        return found[0]

    def start(self) -> None:
        with self.log.open("ab") as log:
            argv = (*self.machine.enter(), *self.command)
            self._entered = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal that ends it, and wait for that."""
        if self._entered is not None and self.runs:
            os.kill(self.pid, number)
            self._entered.wait(_LIMIT_S)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until it is ready; fails at once if it has ended."""
        wait_for(self.command[0], lambda: self._still_runs() and ready(), self.log)

    def tail(self) -> str:
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def _still_runs(self) -> bool:
        if not self.runs:
            raise AssertionError(f"{self.command[0]} ended:\n{self.tail()}")
        return True


@dataclass
class Machine:
    """See the module; `folder` is for its logs and files, outside its namespaces."""

    name: str
    folder: Path
    _holder: "subprocess.Popen[bytes] | None" = None
    programs: dict[str, Program] = field(default_factory=dict)

    def begin(self, mounts: str = "") -> None:
        """Make the namespaces; `mounts` is a shell script that is run in there first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "holder.log").open("ab") as log:
            command = (*_SPACES, "--propagation", "private", "sh", "-c", _HOLD, "sh", self.name, mounts)
            self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        ready = self._holder.stdout.readline() if self._holder.stdout else b""
        if ready != b"ready\n":
            said = (self.folder / "holder.log").read_text()
            raise AssertionError(f"{self.name}: its namespaces could not be made: {said}")

    @property
    def holder(self) -> int:
        """The PID of who holds the namespaces."""
        if self._holder is None:
            raise AssertionError(f"{self.name} has no namespaces")
        return self._holder.pid

    @property
    def root(self) -> Path:
        """Its root folder, as the test sees it."""
        return Path(f"/proc/{self.holder}/root")

    def at(self, path: str) -> Path:
        """A path of the machine, as the test sees it."""
        return self.root / path.lstrip("/")

    def write(self, path: str, content: str) -> None:
        """A file in here, and the folders above it."""
        file = self.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def copy(self, source: Path, path: str) -> None:
        """A file of the real machine in here."""
        shutil.copy(source, self.at(path))

    # Programs

    def enter(self, *, only_network: bool = False) -> tuple[str, ...]:
        """The command that runs another in here; with `only_network` it sees the files of the real machine."""
        spaces = f"/proc/{self.holder}/ns"
        found: tuple[str, ...] = (f"--net={spaces}/net",)
        if not only_network:
            found += (f"--mount={spaces}/mnt", f"--uts={spaces}/uts", f"--pid={spaces}/pid_for_children")
        return ("nsenter", *found, "--", "env", "-i", f"PATH={PATH}", "HOME=/root")

    def said(self, *argv: object, stdin: str = "", timeout_s: float = _LIMIT_S) -> Said:
        """Run a program in here to its end."""
        return ran((*self.enter(), *map(str, argv)), stdin, timeout_s)

    def run(self, *argv: object, stdin: str = "", timeout_s: float = _LIMIT_S) -> str:
        """The same, for what must succeed; gives its output."""
        return succeeded(self.said(*argv, stdin=stdin, timeout_s=timeout_s), argv)

    def program(self, name: str, *command: object) -> Program:
        """A program that is to run until its own end or the machine's, not started yet."""
        self.programs[name] = Program(self, tuple(map(str, command)), self.folder / f"{name}.log")
        return self.programs[name]

    def inside(self, work: Callable[[], T], pid: int = 1) -> T:
        """`work()` in the network namespace of this machine, or of the process `pid` (as seen in here)."""
        fd = netns.open_namespace(f"{self.root}/proc/{pid}/ns/net")
        try:
            return netns.run_inside(fd, work)
        finally:
            os.close(fd)

    @contextmanager
    def held_namespaces(self) -> Iterator[frozenset[str]]:
        """Which they are, as /proc tells them; held open, for the number of one that is gone may be a stranger's."""
        paths = [f"/proc/{self.holder}/ns/{kind}" for kind in ("net", "mnt", "uts", "pid_for_children")]
        with ExitStack() as held:
            for path in paths:
                held.callback(os.close, os.open(path, os.O_RDONLY))
            yield frozenset(map(os.readlink, paths))

    def end(self) -> None:
        """End everything in here; nothing happens the second time."""
        if self._holder is None:
            return
        for stream in (self._holder.stdin, self._holder.stdout):
            if stream is not None:
                stream.close()
        self._holder.wait(_LIMIT_S)
        for program in self.programs.values():
            if program._entered is not None:
                program._entered.wait(_LIMIT_S)
        self._holder = None


def ran(argv: Sequence[str], stdin: str = "", timeout_s: float = _LIMIT_S) -> Said:
    """How a program ended."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s)
    return Said(done.returncode, done.stdout, done.stderr)


def succeeded(said: Said, argv: Sequence[object]) -> str:
    """What a program said that must have succeeded."""
    if said.status:
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {said.status}: {said.err or said.out}")
    return said.out
