"""What a lab consists of: a folder, and in it a file that says which processes, nodes and pods there are."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from datastore.transfer.follow import followed
from kernel.process import Process

ROOT_FOLDER = Path("/run/tortie-lab")
SUBNET_IPV4, SUBNET_IPV6 = "172.30.0.", "fd30::"
"""The underlay between nodes is 172.30.0.0/24 and fd30::/64; node N has .N and ::N (in decimal digits)."""
MAX_NODES = 99
_FOLDER_MAX = 60
"""Bytes of the folder's path: sockets lie below it, and a unix socket's path has 107."""


class LabError(Exception):
    """A lab can't do what was asked; `hint` is what to do next."""

    def __init__(self, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


class ProcessRecord(msgspec.Struct, frozen=True):
    """A process in the file."""

    pid: int
    start: int

    @property
    def process(self) -> Process:
        """The process meant."""
        return Process(self.pid, self.start)


class LabNode(msgspec.Struct, frozen=True):
    """A node: the process that keeps its namespaces, and its addresses."""

    name: str
    keeper: ProcessRecord
    addresses: tuple[str, ...]
    machine: str
    agent: ProcessRecord | None = None


class LabPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod, as it was attached."""

    namespace: str
    name: str
    node: str
    container_id: str
    netns: str
    """Its name in the node's /run/netns."""
    args: str
    extra: Mapping[str, object]
    server: ProcessRecord | None = None


class LabState(msgspec.Struct, frozen=True, kw_only=True):
    """A whole lab."""

    holder: ProcessRecord
    rootless: bool
    nodes: tuple[LabNode, ...] = ()
    datastore: str = ""
    """The address that was asked for; empty: a file of the lab's own."""
    pools: tuple[str, ...] = ()
    """Names of those that the lab made."""
    controller: ProcessRecord | None = None
    forwarder: ProcessRecord | None = None
    """By it the nodes reach servers of this machine (`lab.forward`)."""

    def node(self, name: str) -> LabNode:
        """A node by name.

        Raises:
            LabError: there is none; names those that there are.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"no node {name!r} in this lab", f"there are {', '.join(node.name for node in self.nodes)}", 2)


class Folder:
    """A lab's folder and what is where in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def datastore(self) -> str:
        """The address of the lab's datastore, where its agents followed it to."""
        state = self.read()
        url = state.datastore if state is not None and state.datastore else self.own_datastore
        folders = [
            self.of_controller,
            *(self.of_node(node.name) for node in (state.nodes if state is not None else ())),
        ]
        for _ in folders:
            url = next((to for one in folders if (to := followed(one, url)) != url), url)
        return url

    @property
    def own_datastore(self) -> str:
        """The address of a file here, where the datastore is unless somebody asks for another."""
        return f"sqlite://{quote(str(self.path))}/tortie.db"

    @property
    def of_controller(self) -> Path:
        """The controller's state folder."""
        return self.path / "controller"

    @property
    def controller(self) -> Path:
        """Where the controller is asked."""
        return self.of_controller / "controller.sock"

    @property
    def controller_log(self) -> Path:
        """What the controller says."""
        return self.of_controller / "controller.log"

    @property
    def conflist(self) -> Path:
        """The network's configuration."""
        return self.path / "10-tortie.conflist"

    @property
    def results(self) -> Path:
        """The chain's cache of results."""
        return self.path / "results"

    def of_node(self, name: str) -> Path:
        """A node's state folder, which is its agent's --state."""
        return self.path / "nodes" / name

    def control(self, name: str) -> Path:
        """Where a node's agent is asked."""
        return self.of_node(name) / "agent.sock"

    def ipam(self, name: str) -> Path:
        """Where a node's agent serves IPAM."""
        return self.of_node(name) / "ipam.sock"

    def log(self, name: str) -> Path:
        """What a node's agent says."""
        return self.of_node(name) / "agent.log"

    def make(self) -> None:
        """Make the folder, for its owner alone; `topology.down` removes it with all that is in it.

        Raises:
            LabError: it can't be made, has other things in it, or its path is too long for sockets.
        """
        if len(os.fsencode(self.path)) > _FOLDER_MAX:
            raise LabError(f"{self.path} is too long for unix sockets below it", "choose a shorter --state", 2)
        try:
            if self.path.exists() and any(self.path.iterdir()):
                raise LabError(f"{self.path} is not empty, and no lab's", "choose another --state", 2)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._identity.write_text(secrets.token_hex(8))
            (self.path / "pods").mkdir(mode=0o700, exist_ok=True)
            (self.path / "nodes").mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise LabError(f"{self.path} can't be made: {error.strerror}", "choose another --state") from error

    @property
    def identity(self) -> str:
        """What the keepers of this folder's lab carry in their environment; empty where there never was a lab."""
        try:
            return self._identity.read_text()
        except OSError:
            return ""

    @property
    def _identity(self) -> Path:
        return self.path / "lab.id"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time, for what must be looked at and changed in one go."""
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self) -> LabState | None:
        """The lab of this folder, running or not; None if there never was one."""
        try:
            return msgspec.json.decode((self.path / "lab.json").read_bytes(), type=LabState)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LabError(f"{self.path} is no lab's folder: {error.strerror}", "choose another --state", 2) from error
        except msgspec.DecodeError as error:
            raise LabError(f"{self.path}/lab.json can't be read: {error}", f"remove {self.path}") from error

    def running(self) -> LabState:
        """The lab of this folder.

        Raises:
            LabError: none runs here.
        """
        state = self.read()
        if state is None or not state.holder.process.alive:
            raise LabError(f"no lab runs at {self.path}", "start one: tortiectl lab up", 3)
        return state

    def write(self, state: LabState) -> None:
        """Keep what a lab consists of now."""
        _write(self.path / "lab.json", msgspec.json.encode(state))

    def pods(self) -> list[LabPod]:
        """Every pod, by namespace and name."""
        found = []
        for path in self.path.glob("pods/*.json"):
            with contextlib.suppress(FileNotFoundError):  # another command removes it just now
                found.append(msgspec.json.decode(path.read_bytes(), type=LabPod))
        return sorted(found, key=lambda pod: (pod.namespace, pod.name))

    def pod(self, namespace: str, name: str) -> LabPod | None:
        """A pod, if it is there."""
        return next((pod for pod in self.pods() if (pod.namespace, pod.name) == (namespace, name)), None)

    def write_pod(self, pod: LabPod) -> None:
        """Keep a pod."""
        _write(self._pod_path(pod), msgspec.json.encode(pod))

    def forget_pod(self, pod: LabPod) -> None:
        """Forget a pod."""
        self._pod_path(pod).unlink(missing_ok=True)

    def _pod_path(self, pod: LabPod) -> Path:
        return self.path / "pods" / f"{pod.container_id}.json"


def default_folder() -> Path:
    """Where a lab is unless --state or $TORTIE_STATE says otherwise."""
    if os.geteuid() == 0:
        return ROOT_FOLDER
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "tortie-lab" if runtime else Path(f"/tmp/tortie-lab-{os.geteuid()}")  # noqa: S108  # 0700


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
