"""PostgreSQL as Debian packs it, for tests: a folder, a port and a process of its own.

A role `tortie` owns the database `tortie`; each store is a schema there. The superuser `postgres` comes in by the
server's unix socket without a password. The server refuses root, so root starts it as the user `postgres`.
"""

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

BIN = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
PASSWORD = "p@ss:w/rd%20"  # noqa: S105  # of a server that nobody reaches
PATIENCE_S = 60.0
_POLL_S = 0.02
_CONF = """\
listen_addresses = '127.0.0.1'
max_connections = 50
shared_buffers = 16MB
max_wal_size = 64MB
log_min_messages = warning
"""
_HBA = """\
local all all trust
host all,replication postgres 127.0.0.1/32 trust
{hosts}
"""


def missing() -> str | None:
    """Why there can be no server here, if so."""
    if not (BIN / "postgres").exists():
        return f"there is no {BIN}/postgres: sh ci/peers.sh stores"
    if os.geteuid() == 0 and subprocess.run([*_as_user(), "true"], capture_output=True).returncode:
        return f"the server refuses root, and nobody can be the user {USER} here"
    return None


def _as_user() -> list[str]:
    if os.geteuid():
        return []
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return ["false"]
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


class PostgreSQLServer:
    """A server that can be started, stopped, killed, and started again on the same data."""

    forgets = False

    def __init__(self, *, conf: str = "", hosts: str = "host all all 127.0.0.1/32 scram-sha-256") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tortie-postgresql-"))  # pytest's folders are for root alone
        self.data = self.folder / "data"
        self.port = _free_port()
        self._conf = conf
        self._hosts = hosts
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)

    async def new_store(self) -> str:
        """The name of a schema that isn't there."""
        return f"s{next(self._numbers)}"

    def url(self, store: str, port: int, timeout_s: float = 10.0, more: str = "") -> str:
        """The address of a store; `port` may be a proxy's."""
        place = f"127.0.0.1:{port}/tortie?schema={store}&timeout={timeout_s:g}&sslmode=disable{more}"
        return f"postgresql://tortie:{quote(PASSWORD, safe='')}@{place}"

    async def start(self) -> None:
        """Start it, unless it runs, and wait until it takes connections."""
        if self._process is not None and self._process.poll() is None:
            return
        if not self.data.exists():
            self.make()
            self._spawn()
            await self._ready()
            self.sql(f"CREATE ROLE tortie LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE tortie OWNER tortie")
            return
        self._spawn()
        await self._ready()

    def make(self) -> None:
        """The data of a new server."""
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync", "--wal-segsize=4")
        self.configure()

    def copy(self, primary: "PostgreSQLServer") -> None:
        """Become a hot standby of a server that runs; it begins to follow when it is started."""
        source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
        self.run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync", *source)
        self.configure()

    async def promote(self) -> None:
        """Make a primary of a standby."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def configure(self) -> None:
        """Write its settings."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{_CONF}port = {self.port}\nunix_socket_directories = '{self.folder}'\n{self._conf}\n")
        (self.data / "pg_hba.conf").write_text(_HBA.format(hosts=self._hosts))

    async def stop(self) -> None:
        """Shut it down: who is connected is told (a fast shutdown)."""
        await self._end(signal.SIGINT)

    async def kill(self) -> None:
        """SIGKILL to all its processes: nobody is told, nothing is flushed."""
        if self._process is None:
            return
        children = _children(self._process.pid)
        self._process.kill()
        for child in children:
            _kill(child)
        await self._gone()
        while any(_lives(child) for child in children):
            await asyncio.sleep(_POLL_S)

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """What the superuser is answered."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.run(
            *("psql", "-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-d", database),
            *("-v", "ON_ERROR_STOP=1", "-qtA", *commands),
        )

    def run(self, program: str, *arguments: str) -> str:
        """What a program of PostgreSQL's prints."""
        ran = subprocess.run(
            [*_as_user(), str(BIN / program), *arguments], capture_output=True, text=True, cwd=self.folder
        )
        if ran.returncode:
            raise RuntimeError(f"{program}: {ran.stderr}")
        return ran.stdout.strip()

    def mount(self, folder: Path, *, size_mib: int) -> None:
        """A small disk of the server's at `folder`; for root in a mount namespace of the run's own."""
        folder.mkdir()
        user = pwd.getpwnam(USER)
        options = f"size={size_mib}m,mode=700,uid={user.pw_uid},gid={user.pw_gid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)

    def unmount(self, folder: Path) -> None:
        """Take the disk away, used or not."""
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    def remove(self) -> None:
        """Kill it, and take its folder away."""
        if self._process is not None and self._process.poll() is None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                _kill(pid)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self) -> None:
        with (self.folder / "log").open("ab") as log:
            argv = [*_as_user(), str(BIN / "postgres"), "-D", str(self.data)]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)

    async def _ready(self) -> None:
        state = self.data / "postmaster.pid"
        async with asyncio.timeout(PATIENCE_S):
            while not (state.exists() and _says_ready(state.read_text(), self._process)):
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"the server didn't start: {self.log()[-2000:]}")
                await asyncio.sleep(_POLL_S)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
        await self._gone()

    async def _gone(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self._process is not None and self._process.poll() is None:
                await asyncio.sleep(_POLL_S)
        self._process = None


_shared: list[PostgreSQLServer] = []


async def shared_server() -> PostgreSQLServer:
    """The one that lives as long as this process, started by whoever needs it first."""
    if not _shared:
        server = PostgreSQLServer()
        atexit.register(server.remove)
        _shared.append(server)
    await _shared[0].start()
    return _shared[0]


def _says_ready(text: str, process: "subprocess.Popen[bytes] | None") -> bool:
    # The format is CreateLockFile's in PostgreSQL's miscinit.c: pid on line 1, state on line 8.
    lines = text.splitlines()
    return process is not None and len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
