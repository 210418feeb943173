"""One host for tests: the real agent as a process in a namespace of its own, its plugin executed as a runtime does.

    outside 172.30.0.254, fd30::fe ──── up0 172.30.0.1, fd30::1  (the host)  tort… ──── eth0 (pods)

The datastore is a SQLite file with one pool of each family. Everything is below one folder and in namespaces that are
removed at the end; programs enter them by nsenter.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from cni.chain import Chain, Document, read_conflist
from datastore.resources.ipblock import IPBlock
from datastore.urls import open_store
from ipam.block import Block
from lab.probe import probe
from tests.sandbox import Namespace, namespaces

ROOT = Path(__file__).resolve().parents[1]
RELAY = ROOT / "build" / "cni" / "tortie"
RELAY_IPAM = ROOT / "build" / "cni" / "tortie-ipam"
PYTHON_PLUGIN = (sys.executable, "-I", "-m", "cni")
BIN = Path(sys.executable).parent
DEBIAN_PLUGINS = Path("/usr/lib/cni")
CACHE = Path(os.environ.get("TORTIE_CACHE") or ("/var/cache/tortie" if os.getuid() == 0 else "~/.cache/tortie"))
NEWEST_PLUGINS = CACHE.expanduser() / "cni-plugins-v1.9.1"
CNITOOL = CACHE.expanduser() / "cnitool-v1.3.1" / "cnitool"
POOLS = {"v4": "10.65.0.0/16", "v6": "fd65::/48"}
OUTSIDE = ("172.30.0.254", "fd30::fe")
INSIDE = ("172.30.0.1", "fd30::1")
_READY_S = 30.0
_LIMIT_S = 120
_LENGTH = struct.Struct("=I")
_numbers = count()

both_plugin_sets = pytest.mark.parametrize(
    "plugins",
    [
        pytest.param(path, id=name, marks=pytest.mark.skipif(not (path / "portmap").exists(), reason=reason))
        for name, path in (("debian", DEBIAN_PLUGINS), ("newest", NEWEST_PLUGINS))
        for reason in (f"there is no {path}/portmap: sh ci/peers.sh plugins",)
    ],
)
"""A test that runs with Debian's reference plugins and with the newest; takes `plugins: Path`."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object."""
        found = json.loads(self.out)
        if not isinstance(found, dict):
            raise AssertionError(f"no JSON object: {self.out!r}")
        return cast("dict[str, Any]", found)


@dataclass
class Host:
    """A node with its agent; `start` it."""

    place: Path
    namespace: Namespace
    outside: Namespace
    agent: "subprocess.Popen[bytes] | None" = None
    pods: list[str] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.place / "cni.sock"

    @property
    def state(self) -> Path:
        return self.place / "node"

    @property
    def database(self) -> Path:
        """In a folder of its own, so that a test can put it on a disk of its own."""
        return self.place / "store" / "tortie.db"

    @property
    def datastore(self) -> str:
        return f"sqlite://{self.database}"

    # The agent

    def start(self, *options: str, env: Mapping[str, str] | None = None) -> None:
        """Start the agent, and return when it serves."""
        agent = self.begin(*options, env=env)
        limit = time.monotonic() + _READY_S
        while not self.status().get("ready"):
            if agent.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"the agent doesn't serve: {self.log()[-1500:]}")
            time.sleep(0.05)

    @property
    def identity(self) -> Sequence[str]:
        """The options that say who this node is."""
        addresses = [word for address in INSIDE for word in ("--node-ip", address)]
        return "--node", "node-1", "--machine-id", "machine-1", *addresses

    def begin(self, *options: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start the agent."""
        with (self.place / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                (
                    *self.enter(),
                    *(str(BIN / "tortie-agent"), *self.identity, "--refresh", "5"),
                    *("--datastore", self.datastore, "--state", str(self.state), "--socket", str(self.socket)),
                    *options,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        return self.agent

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent, if it runs."""
        if self.agent is not None and self.agent.poll() is None:
            self.agent.send_signal(number)
        if self.agent is not None:
            self.agent.wait(30)
        self.agent = None

    def status(self) -> dict[str, Any]:
        """What the agent says of itself; empty where none answers."""
        try:
            with socket.socket(socket.AF_UNIX) as agent:
                agent.settimeout(10)
                agent.connect(str(self.state / "agent.sock"))
                body = json.dumps({"status": {}}).encode()
                agent.sendall(_LENGTH.pack(len(body)) + body)
                with agent.makefile("rb") as answers:
                    (length,) = _LENGTH.unpack(answers.read(_LENGTH.size))
                    return cast("dict[str, Any]", json.loads(answers.read(length)))
        except (OSError, struct.error):
            return {}

    def log(self) -> str:
        """What the agent logged."""
        return (self.place / "agent.log").read_text(errors="replace")

    # Programs

    def enter(self) -> tuple[str, ...]:
        """The command that runs another in the host's namespace."""
        return ("nsenter", f"--net={self.namespace.path}")

    def ctl(self, *arguments: str, stdin: str = "") -> Said:
        """tortiectl on this host's datastore."""
        environment = {**os.environ, "TORTIE_DATASTORE": self.datastore, "TORTIE_STATE": str(self.place)}
        return _ran((*self.enter(), str(BIN / "tortiectl"), *arguments), stdin, environment)

    def apply(self, *documents: Mapping[str, object]) -> None:
        """`tortiectl apply` of some objects."""
        said = self.ctl("apply", "-f", "-", stdin=json.dumps({"kind": "List", "items": list(documents)}))
        if said.status:
            raise AssertionError(said.err)

    def environment(self, **variables: str) -> dict[str, str]:
        """What a plugin executed here gets: PATH, our socket, and what the caller adds."""
        return {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "TORTIE_CNI_SOCKET": str(self.socket), **variables}

    def execute(self, program: Sequence[str], stdin: str, variables: Mapping[str, str]) -> Said:
        """A plugin executed in the host's namespace, with just these variables."""
        return _ran((*self.enter(), *program), stdin, self.environment(**variables))

    def call(
        self,
        command: str,
        config: Mapping[str, object],
        container: str = "c1",
        netns: str = "",
        interface: str = "eth0",
        args: str = "",
        path: Sequence[Path] = (RELAY.parent,),
        program: Sequence[str] = (str(RELAY),),
    ) -> Said:
        """One CNI call of a plugin."""
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": interface,
            "CNI_ARGS": args,
            "CNI_PATH": os.pathsep.join(map(str, path)),
        }
        return self.execute(program, json.dumps(config), {name: value for name, value in variables.items() if value})

    def chain(self, conflist: Mapping[str, object], path: Sequence[Path]) -> Chain:
        """Runs a conflist's plugins as libcni does, in the host's namespace; plugins are looked for in `path`."""
        found = read_conflist(json.dumps(conflist))
        return Chain(found, path, self.place / "results", self.environment(), self.enter(), _LIMIT_S)

    def owned(self) -> dict[str, str]:
        """Who owns which address, as the store says."""

        async def ask() -> dict[str, str]:
            store = await open_store(self.datastore)
            try:
                blocks = [Block.read(record) for record in (await store.list(IPBlock)).items]
            finally:
                await store.close()
            return {
                str(block.address_of(int(ordinal))): found.handle
                for block in blocks
                for ordinal, found in block.record.spec.allocations.items()
            }

        return asyncio.run(ask())

    def heard(self, where: Namespace, address: str, port: int = 9, protocol: str = "TCP") -> str:
        """What a connection from a namespace meets: open, closed (packets pass) or silent."""
        return where.inside(lambda: probe(address, port, protocol, 3.0))

    def pod(self) -> Namespace:
        """A fresh namespace for a pod."""
        name = f"t{os.getpid()}-h{next(_numbers)}"
        subprocess.run(("ip", "netns", "add", name), check=True)
        self.pods.append(name)
        return Namespace(name)

    def shown(self, *argv: str, where: Namespace | None = None) -> list[Document]:
        """`ip -d -j ...` in the host's namespace, or in another."""
        rows = json.loads((where or self.namespace).run("ip", "-d", "-j", *argv) or "[]")
        return [row for row in cast("list[Document]", rows) if row]


@contextmanager
def hosts(place: Path, *, start: bool = True) -> Iterator[Host]:
    """A host whose agent serves (unless told not to start it); everything of it is removed at the end."""
    with namespaces("host", "out") as [inside, outside]:
        host = Host(place, inside, outside)
        far = outside.name
        inside.ip(f"link add up0 type veth peer name up1 netns {far}", "link set up0 up")
        inside.ip(f"addr add {INSIDE[0]}/24 dev up0", f"addr add {INSIDE[1]}/64 dev up0 nodad")
        outside.ip("link set up1 up", f"addr add {OUTSIDE[0]}/24 dev up1", f"addr add {OUTSIDE[1]}/64 dev up1 nodad")
        outside.ip(*(f"route add {cidr} via {via}" for cidr, via in zip(POOLS.values(), INSIDE, strict=True)))
        host.apply(*(pool(name, cidr) for name, cidr in POOLS.items()))
        try:
            if start:
                host.start()
            yield host
        finally:
            host.stop(signal.SIGKILL)
            for name in host.pods:
                subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)


def pool(name: str, cidr: str) -> dict[str, object]:
    """An IPPool, for `Host.apply`."""
    return {"apiVersion": "tortie.dev/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr}}


def _ran(command: Sequence[str], stdin: str, environment: Mapping[str, str]) -> Said:
    done = subprocess.run(
        command, input=stdin, env=dict(environment), capture_output=True, text=True, check=False, timeout=_LIMIT_S
    )
    return Said(done.returncode, done.stdout, done.stderr)
