"""A machine to install on: the host's programs, in a network namespace of its own and with private folders.

What init writes to lies over the real folders in a mount namespace for each command: /etc is an overlay, /opt and
/var/lib are empty folders. The run's own sandbox has a tmpfs on /run, so /run/tortie is private already.
"""

import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path

from agent.asking import status
from tests.host import BIN, Said
from tests.sandbox import Namespace, namespaces

_OTHERS = """
ip rule add from 192.0.2.1 lookup 99
ip route add 192.0.2.0/24 via 172.30.0.254
ipset create others hash:ip
ipset add others 192.0.2.1
iptables-nft -A FORWARD -m set --match-set others src -j DROP
iptables-nft -t mangle -N OTHERS
ip link add tortoise type dummy 2>/dev/null || ip link add tortoise type bridge
"""
"""What a machine has of its own."""
_PRIVATE = """
mount -n -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" /etc
mount -n --bind "$1/opt" /opt
mount -n --bind "$1/var-lib" /var/lib
shift
exec "$@"
"""
_SHOWN = """
for family in -4 -6; do ip $family rule; ip $family route show table all; done
ip -br link
ipset save
sysctl net.ipv4.ip_forward net.ipv4.conf net.ipv6.conf 2>/dev/null
for program in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do $program-save; done
"""
INIT = ("host", "init", "--pool", "10.65.0.0/16", "--node", "node-1", "--node-ip", "172.30.0.1")
_AGENT = ("--node", "node-1", "--node-ip", "172.30.0.1")
CONFLIST = "etc/cni/net.d/10-tortie.conflist"
_FOLDERS = ("etc", "work", "opt", "var-lib")
_RUN = Path("/run/tortie")
_LIMIT_S = 120
_READY_S = 30
_numbers = count()


@dataclass
class Machine:
    """A machine; `init` it."""

    place: Path
    namespace: Namespace
    agent: "subprocess.Popen[bytes] | None" = None
    pods: list[str] = field(default_factory=list)
    others: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """The agent's folder, from outside."""
        return self.place / "var-lib" / "tortie"

    @property
    def datastore(self) -> str:
        """Where init puts it."""
        return "sqlite:///var/lib/tortie/tortie.db"

    @property
    def conflist(self) -> Path:
        """Where runtimes look, from outside."""
        return self.place / CONFLIST

    def command(self, *argv: str) -> tuple[str, ...]:
        """A command that runs on this machine."""
        inside = ("unshare", "-m", "sh", "-ec", _PRIVATE, "sh", str(self.place))
        return ("nsenter", f"--net={self.namespace.path}", *inside, *argv)

    def environment(self) -> dict[str, str]:
        """What programs here find in theirs."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TORTIE_")}
        return {**clean, "PATH": f"{BIN}:{clean['PATH']}:/usr/sbin:/sbin"}

    def run(self, *argv: str, env: dict[str, str] | None = None, stdin: str = "") -> Said:
        """Run a program here."""
        done = subprocess.run(
            self.command(*argv),
            input=stdin,
            env={**self.environment(), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def ctl(self, *arguments: str, stdin: str = "") -> Said:
        """tortiectl on this machine."""
        return self.run("tortiectl", *arguments, stdin=stdin)

    def done(self, *arguments: str, stdin: str = "") -> str:
        """The same, which must succeed; gives its standard output."""
        said = self.ctl(*arguments, stdin=stdin)
        if said.status:
            raise AssertionError(f"tortiectl {' '.join(arguments)}: {said.err}{said.out}")
        return said.out

    def start(self, *argv: str) -> None:
        """Start the agent, by the command that init printed if it is given, and return when it serves."""
        command = argv or (str(BIN / "tortie-agent"), *_AGENT, "--datastore", self.datastore)
        with (self.place / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                self.command(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
            )
        limit = time.monotonic() + _READY_S
        while not (status(self.state / "agent.sock") or {}).get("ready"):
            if self.agent.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"the agent doesn't serve: {(self.place / 'agent.log').read_text()[-1500:]}")
            time.sleep(0.05)

    def begin(self, *argv: str) -> "subprocess.Popen[bytes]":
        """Start a program here, which ends with the machine."""
        with (self.place / "others.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
            )
        self.others.append(process)
        return process

    def stop(self) -> None:
        """End the agent and whatever else was begun, if it runs."""
        for process in (*self.others, *((self.agent,) if self.agent is not None else ())):
            process.kill()
            process.wait(30)
        self.agent, self.others = None, []

    def pod(self) -> Namespace:
        """A fresh namespace for a pod."""
        name = f"t{os.getpid()}-m{next(_numbers)}"
        subprocess.run(("ip", "netns", "add", name), check=True)
        self.pods.append(name)
        return Namespace(name)

    def call(self, verb: str, container: str, netns: str = "") -> Said:
        """The installed plugin, with the installed configuration."""
        network = json.loads(self.conflist.read_text())
        config = {"name": network["name"], "cniVersion": network["cniVersion"], **network["plugins"][0]}
        environment = {"CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": "eth0"}
        return self.run(
            "/opt/cni/bin/tortie", env={**environment, "CNI_PATH": "/opt/cni/bin"}, stdin=json.dumps(config)
        )

    def files(self) -> dict[str, str]:
        """Every file, folder and link that isn't as on a machine without tortie: kind, mode, owner, content."""
        folders = [self.place / name for name in ("etc", "opt", "var-lib")]
        found = {f"/{path.relative_to(self.place)}": described(path) for top in folders for path in top.rglob("*")}
        # An overlay has a copy of each folder that something was made in.
        found = {path: what for path, what in found.items() if not _is_so(Path(path), what)}
        return {**found, **{str(path): described(path) for path in (_RUN, *_RUN.rglob("*")) if os.path.lexists(path)}}

    def installed(self) -> dict[str, str]:
        """The same without the state folder, in which an agent that runs writes."""
        return {path: what for path, what in self.files().items() if not path.startswith("/var-lib/")}

    def kernel(self) -> set[str]:
        """What a node changes in the kernel, as its own tools show it."""
        lines = self.namespace.run("sh", "-c", _SHOWN).splitlines()
        # A table's own chains without a rule are what is left of a table that was looked at.
        return {line for line in lines if not line.startswith(("#", "*", "COMMIT")) and " ACCEPT [" not in line}


def _is_so(path: Path, what: str) -> bool:
    return path.is_dir() and path.is_relative_to("/etc") and described(path) == what


def described(path: Path) -> str:
    """What a file is."""
    found = path.lstat()
    content = ""
    if stat.S_ISREG(found.st_mode):
        content = sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    return f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid} {content}"


@contextmanager
def machines(place: Path, *, folders: Sequence[str] = ()) -> Iterator[Machine]:
    """A machine with an uplink; everything of it is removed at the end. `folders` are made before."""
    for name in (*_FOLDERS, *folders):
        (place / name).mkdir(parents=True)
    with namespaces("machine", "out") as [inside, outside]:
        outside.ip(f"link add up1 type veth peer name up0 netns {inside.name}", "link set up1 up")
        inside.ip("link set up0 addrgenmode none", "link set up0 up")  # an address of its own would come late
        inside.ip("addr add 172.30.0.1/24 dev up0", "addr add fd30::1/64 dev up0 nodad")
        inside.run("sh", "-ec", _OTHERS)
        machine = Machine(place, inside)
        try:
            yield machine
        finally:
            machine.stop()
            for name in machine.pods:
                subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)
            for path in sorted(_RUN.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            if _RUN.exists():
                _RUN.rmdir()
