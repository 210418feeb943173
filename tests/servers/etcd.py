"""Real etcd servers: one member or three, plain or with mutual TLS, which tests kill, stop, restart and compact.

    with Etcd(binary, folder, members=3, tls=True) as etcd:     on free ports of 127.0.0.1, files below the folder
        etcd.members[0].kill()

Administration goes over etcd's JSON gateway, so that no client of ours is needed to test our client. `shared` is the
one that a whole test run uses, each store below a prefix of its own.
"""

import asyncio
import atexit
import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import count
from pathlib import Path
from types import TracebackType

import pytest

from tests.host import CACHE

VERSIONS: Mapping[str, Path] = {
    "etcd-3.4": CACHE.expanduser() / "etcd-debian" / "etcd",
    "etcd": CACHE.expanduser() / "etcd-v3.7.3" / "etcd",
}
"""Debian's, and the newest."""
READY_S = 60.0
_TRIES = 5
"""A free port may be taken by somebody else before the server has it."""
_prefixes = count()


def program(version: str) -> Path:
    """The server's program; the test is skipped where there is none."""
    found = VERSIONS[version]
    if not found.exists():
        pytest.skip(f"there is no {found}: sh ci/peers.sh stores")
    return found


@dataclass(frozen=True)
class Certificates:
    """Of a CA of its own: one for the servers, one for clients."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        if not shutil.which("openssl"):
            pytest.skip("there is no openssl")
        folder.mkdir(parents=True)
        made = cls(folder)
        _openssl(folder, "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca", "ca")
        for name, usage in (("server", "serverAuth,clientAuth"), ("client", "clientAuth")):
            extensions = f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n"
            (folder / f"{name}.ext").write_text(extensions)
            request = f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out"
            _run(folder, f"{request} {name}.csr")
            sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial"
            _run(folder, f"{sign} -in {name}.csr -extfile {name}.ext -out {name}.pem")
        return made


def _openssl(folder: Path, command: str, name: str) -> None:
    _run(folder, f"{command} -keyout {name}.key -out {name}.pem")


def _run(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


@dataclass(frozen=True)
class Stored:
    """A key and its value."""

    key: bytes
    value: bytes


@dataclass
class Member:
    """One server process."""

    name: str
    command: Sequence[str]
    port: int
    """Where clients connect."""
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            # It ends with this test run, even if that is killed.
            self.process = subprocess.Popen([*_dying_with_us(), *self.command], stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it takes its leave."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        self.signal(number)
        if self.process is not None:
            self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP makes a server that takes connections and says nothing."""
        if self.process is not None and self.runs:
            self.process.send_signal(number)


@cache
def _dying_with_us() -> tuple[str, ...]:
    return ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


@dataclass
class Etcd:
    """A cluster; `with` starts and ends it."""

    binary: Path
    folder: Path
    size: int = 1
    tls: bool = False
    flags: Sequence[str] = ()
    members: list[Member] = field(default_factory=list)
    certificates: Certificates | None = None
    root: str = ""
    """A token of etcd's root, once users are switched on."""

    def __enter__(self) -> "Etcd":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the cluster and wait until it takes writes."""
        if self.tls:
            self.certificates = Certificates.make(self.folder / "certificates")
        for life in range(_TRIES):
            self.members = self._described(self.folder / f"life{life}")
            for member in self.members:
                member.start()
            if self._is_up():
                return
            self.stop()
        raise RuntimeError(f"etcd doesn't start: {self.members[0].log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Kill every member."""
        for member in self.members:
            member.kill()

    def url(self, prefix: str = "", *ports: int, **parameters: str | Path) -> str:
        """The address of a store below `prefix` (by default a new one), at some ports (by default the members')."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or [member.port for member in self.members])
        if self.certificates:
            cert, key = self.certificates.pair("client")
            parameters = {"ca": self.certificates.ca, "cert": cert, "key": key, **parameters}
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"etcd://{hosts}/{prefix or new_prefix()}{'?' if query else ''}{query}"

    def wait(self) -> None:
        """Until every member that runs takes writes."""
        deadline = time.monotonic() + READY_S
        while not all(self._answers(member) for member in self.members if member.runs):
            if time.monotonic() > deadline:
                raise RuntimeError(f"etcd isn't back: {self.members[0].log.read_text()[-2000:]}")
            time.sleep(0.02)

    def leader(self) -> Member:
        """The member that leads now."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for member in self.members:
                with contextlib.suppress(OSError, HTTPException, Refused):
                    status = self.ask("maintenance/status", {}, member)
                    if within(status, "leader") == within(status, "header", "member_id"):
                        return member
            time.sleep(0.02)
        raise RuntimeError("nobody leads")

    def compact(self, revision: int) -> None:
        """Forget what came before `revision`, if that isn't forgotten already."""
        try:
            self.ask("kv/compaction", {"revision": revision})
        except Refused as error:
            if "has been compacted" not in str(error):
                raise

    def free_space(self) -> None:
        """What an administrator does when the quota is used up."""
        self.ask("kv/compaction", {"revision": self.revision(), "physical": True})
        self.ask("maintenance/defragment", {})
        for alarm in self._alarms():
            self.ask("maintenance/alarm", {"action": "DEACTIVATE", **alarm})

    def _alarms(self) -> list[dict[str, str]]:
        answer = self.ask("maintenance/alarm", {"action": "GET"})
        assert isinstance(answer, dict), answer
        alarms: list[dict[str, str]] = answer.get("alarms", [])
        return alarms

    def cluster_id(self) -> int:
        return int(within(self.ask("kv/range", {"key": _64("x"), "count_only": True}), "header", "cluster_id"))

    def revision(self) -> int:
        """The newest."""
        return int(within(self.ask("kv/range", {"key": _64("x"), "count_only": True}), "header", "revision"))

    def everything(self, prefix: str) -> list[Stored]:
        """What is stored below a prefix."""
        answer = self.ask("kv/range", {"key": _64(prefix), "range_end": _64(prefix[:-1] + chr(ord(prefix[-1]) + 1))})
        assert isinstance(answer, dict), answer
        return [
            Stored(base64.b64decode(kv["key"]), base64.b64decode(kv.get("value", ""))) for kv in answer.get("kvs", [])
        ]

    def put(self, key: bytes, value: bytes) -> None:
        """Write behind our driver's back."""
        self.ask("kv/put", {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()})

    def remove(self, prefix: str) -> None:
        """Delete everything below a prefix, behind our driver's back."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        self.ask("kv/deleterange", {"key": _64(prefix), "range_end": _64(end)})

    def switch_users_on(self, user: str, password: str, prefix: str) -> None:
        """A user that may do everything below `prefix`; from then on nobody may without a user."""
        for name, word in (("root", "secret"), (user, password)):
            self.ask("auth/user/add", {"name": name, "password": word})
        for name in ("root", "writers"):
            self.ask("auth/role/add", {"name": name})
        permission = {"permType": "READWRITE", "key": _64(f"/{prefix}/"), "range_end": _64(f"/{prefix}0")}
        self.ask("auth/role/grant", {"name": "writers", "perm": permission})
        self.ask("auth/user/grant", {"user": "root", "role": "root"})
        self.ask("auth/user/grant", {"user": user, "role": "writers"})
        self.ask("auth/enable", {})
        self.root = within(self.ask("auth/authenticate", {"name": "root", "password": "secret"}), "token")

    def ask(self, path: str, body: Mapping[str, object], member: Member | None = None) -> object:
        """Call the JSON gateway.

        Raises:
            Refused: etcd said no.
        """
        connection = self._http((member or self.members[0]).port)
        try:
            headers = {"Authorization": self.root} if self.root else {}
            connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise Refused(said.decode())
            return json.loads(said)
        finally:
            connection.close()

    def _http(self, port: int) -> HTTPConnection:
        if self.certificates is None:
            return HTTPConnection("127.0.0.1", port, timeout=10)
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        context.load_cert_chain(*self.certificates.pair("client"))
        return HTTPSConnection("127.0.0.1", port, timeout=10, context=context)

    def _is_up(self) -> bool:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if not all(member.runs for member in self.members):
                return False
            if all(self._answers(member) for member in self.members):
                return True
            time.sleep(0.02)
        return False

    def _answers(self, member: Member) -> bool:
        try:
            connection = self._http(member.port)
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _described(self, folder: Path) -> list[Member]:
        ports = [(_free_port(), _free_port()) for _ in range(self.size)]
        scheme = "https" if self.tls else "http"
        cluster = ",".join(f"m{number}={scheme}://127.0.0.1:{peers}" for number, (_, peers) in enumerate(ports))
        members = []
        for number, (clients, peers) in enumerate(ports):
            name, data = f"m{number}", folder / f"m{number}"
            data.mkdir(parents=True, mode=0o700)
            own = {"listen-client-urls": clients, "advertise-client-urls": clients}
            theirs = {"listen-peer-urls": peers, "initial-advertise-peer-urls": peers}
            urls = (f"--{name}={scheme}://127.0.0.1:{port}" for name, port in (*own.items(), *theirs.items()))
            command = [str(self.binary), f"--name={name}", f"--data-dir={data}", f"--initial-cluster={cluster}", *urls]
            members.append(Member(name, [*command, *self._secured(), *self.flags], clients, folder / f"{name}.log"))
        return members

    def _secured(self) -> list[str]:
        if self.certificates is None:
            return []
        cert, key = self.certificates.pair("server")
        files = {"cert-file": cert, "key-file": key, "trusted-ca-file": self.certificates.ca}
        mutual = [f"--{peer}{name}={path}" for peer in ("", "peer-") for name, path in files.items()]
        return [*mutual, "--client-cert-auth", "--peer-client-cert-auth"]


@dataclass
class Lone:
    """A cluster of one as `tests.datastore.servers.Server`."""

    cluster: Etcd
    forgets: bool = False

    @property
    def port(self) -> int:
        return self.cluster.members[0].port

    async def new_store(self) -> str:
        return new_prefix()

    def url(self, store: str, port: int, timeout_s: float = 10.0) -> str:
        return self.cluster.url(store, port, timeout=f"{timeout_s:g}")

    async def start(self) -> None:
        if not self.cluster.members[0].runs:
            self.cluster.members[0].start()
            await asyncio.to_thread(self.cluster.wait)

    async def stop(self) -> None:
        await asyncio.to_thread(self.cluster.members[0].stop)

    async def kill(self) -> None:
        await asyncio.to_thread(self.cluster.members[0].kill)


class Refused(Exception):
    """etcd's JSON gateway said no."""


def within(answer: object, *names: str) -> str:
    """A value in an answer of the gateway, which writes 64-bit numbers as text."""
    for name in names:
        assert isinstance(answer, dict), answer
        answer = answer[name]
    return str(answer)


def new_prefix() -> str:
    """A prefix that no other store of this test run has."""
    return f"tortie-{os.getpid()}-{next(_prefixes)}"


@cache
def shared(version: str) -> Etcd:
    """The server that a whole test run uses."""
    binary = program(version)
    folder = Path(tempfile.mkdtemp(prefix="tortie-etcd-"))
    etcd = Etcd(binary, folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(etcd.stop)
    etcd.start()
    return etcd


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
