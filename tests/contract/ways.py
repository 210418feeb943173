"""The ways into tortie's CNI commands, each on a node where it can be called, and what a call may have left there.

    relay    the C relay, an agent behind it
    python   `python -I -m cni`, which finds the same agent's socket
    alone    `python -I -m cni` without an agent: it opens the configured datastore itself
    down     the C relay, and no agent: it can judge the environment, and nothing else

The plugin is a process here, its input bytes, its output bytes; nothing of cni/ is imported but the relay's path.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from datastore.resources.ipblock import IPBlock
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from datastore.urls import open_store
from tests.host import PYTHON_PLUGIN, RELAY, RELAY_IPAM, Host, Said
from tests.sandbox import Namespace

T = TypeVar("T")
Document = dict[str, Any]
_PRIVATE = ("unshare", "-m", "sh", "-c", 'mount -n -t tmpfs tmpfs /var/lib && exec "$@"', "sh")
"""Without a datastore in its configuration the plugin takes the host's own folder: here an empty one."""
WayId = Literal["relay", "python", "alone", "down"]

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CODES = {
    1: "incompatible version",
    2: "unsupported field",
    3: "unknown container",
    4: "bad environment",
    5: "standard input can't be read",
    6: "standard input can't be decoded",
    7: "bad configuration",
    8: "bad network namespace",
    11: "try again later",
    50: "not available",
    51: "not available, and pods that run are hurt",
    100: "CHECK found something wrong",
    101: "GC could not remove everything",
    999: "unforeseen",
}
"""Every code that tortie may answer with: SPEC 1.1.0 section 5, the reference plugins' 8 and 999, and our own."""

LIMIT_S = 60.0
"""No call hangs: the agent's own waits end before (ADD's gate after 10 s, a busy handle after 30)."""
_SETTLED_S = 15.0
"""Addresses and endpoints go beside DEL's answer, links a moment after it, and a kernel may be busy."""
_ids = count(1)


@dataclass(frozen=True, slots=True)
class Pod:
    """A namespace, and the container id that a runtime would name it by."""

    container: str
    namespace: Namespace

    @property
    def netns(self) -> str:
        return self.namespace.path


@dataclass
class Way:
    """One way in. What is added through `call` is removed by `close`, which judges that nothing is left."""

    id: WayId
    host: Host
    pods: list[Pod] = field(default_factory=list)
    _added: dict[tuple[str, str, str, bool], tuple[Document, dict[str, str]]] = field(default_factory=dict)

    @property
    def has_agent(self) -> bool:
        return self.id in ("relay", "python")

    # Calling

    def config(self, version: str | None = "1.1.0", **keys: object) -> Document:
        """A configuration that works here; keys that are None are left out."""
        document: Document = {"cniVersion": version, "name": "net", "type": "tortie"}
        document["ipam"] = {"type": "tortie-ipam"}
        if self.id == "alone":
            document |= {"datastore": self.host.datastore, "state": str(self.host.state)}
            document |= {"nodename": "node-1", "machine": "machine-1"}
        return {key: value for key, value in {**document, **keys}.items() if value is not None}

    def pod(self) -> Pod:
        """A fresh namespace with a container id of its own."""
        pod = Pod(f"c{next(_ids)}", self.host.pod())
        self.pods.append(pod)
        return pod

    def variables(
        self, command: str, pod: Pod | None = None, interface: str = "eth0", args: str = ""
    ) -> dict[str, str]:
        """The CNI_* variables of a call, CNI_PATH not among them: no plugin of ours needs it."""
        found = {"CNI_COMMAND": command, "CNI_ARGS": args}
        if pod is not None:
            found |= {"CNI_CONTAINERID": pod.container, "CNI_NETNS": pod.netns, "CNI_IFNAME": interface}
        return {name: value for name, value in found.items() if value}

    def run(
        self, variables: Mapping[str, str], stdin: bytes | str, *, ipam: bool = False, limit_s: float = LIMIT_S
    ) -> Said:
        """Execute the plugin with just these variables and PATH, in the node's namespace."""
        program = PYTHON_PLUGIN if self.id in ("python", "alone") else (str(RELAY_IPAM if ipam else RELAY),)
        given = self.host.environment(**({"TORTIE_PROGRAM": "tortie-ipam"} if ipam else {}))
        done = subprocess.run(
            (*self.host.enter(), *(_PRIVATE if program is PYTHON_PLUGIN else ()), *program),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            env={**given, **variables},
            capture_output=True,
            check=False,
            timeout=limit_s,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))

    def call(
        self,
        command: str,
        pod: Pod | None = None,
        config: Mapping[str, object] | None = None,
        *,
        interface: str = "eth0",
        args: str = "",
        ipam: bool = False,
        **variables: str,
    ) -> Said:
        """One call; `variables` override what follows from the rest."""
        document = self.config() if config is None else dict(config)
        environment = {**self.variables(command, pod, interface, args), **variables}
        said = self.run(environment, json.dumps(document), ipam=ipam)
        if command == "ADD" and not said.status and pod is not None:
            self._added[str(document["name"]), pod.container, interface, ipam] = document, variables
        return said

    def add(self, pod: Pod, config: Mapping[str, object] | None = None, **parameters: Any) -> Document:  # noqa: ANN401
        """An ADD that succeeds; its result."""
        said = self.call("ADD", pod, config, **parameters)
        assert said.status == 0, said
        return said.json

    # What is left

    def left(self) -> Document:
        """Everything that attachments have left on the node and in the pods; empty where there is nothing."""
        owned, endpoints = self.stored(_owned), self.stored(_endpoints)
        folders = ("attachments", "journal", "handles")
        found: Document = {
            "host ends": self.host_ends(),
            "routes": self.pod_routes(),
            "files": [str(path) for name in folders for path in sorted((self.host.state / name).glob("*"))],
            "addresses": owned,
            "endpoints": endpoints,
            "set members": [line for line in self.host.namespace.run("ipset", "save").splitlines() if ",tort" in line],
            "interfaces": [name for pod in self.pods for name in interfaces(pod)],
        }
        return {key: value for key, value in found.items() if value}

    def nothing_left(self) -> bool:
        """Whether soon nothing is left; says what is."""
        left = soon(self.left, {})
        assert left == {}, left
        return True

    def host_ends(self) -> list[str]:
        return [row["ifname"] for row in self.host.shown("link") if row["ifname"].startswith("tort")]

    def pod_routes(self) -> list[str]:
        rows = [*self.host.shown("-4", "route"), *self.host.shown("-6", "route")]
        return [row["dst"] for row in rows if row.get("dev", "").startswith("tort") and row["dst"] != "fe80::/64"]

    def owned(self) -> list[str]:
        """The handles that own addresses, one for each address."""
        return self.stored(_owned)

    def stored(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Something done with this node's datastore."""

        async def main() -> T:
            store = await open_store(self.host.datastore)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(main())

    def close(self) -> None:
        """DEL what was added; that must succeed and leave nothing."""
        try:
            for (_, container, interface, ipam), (config, more) in self._added.items():
                variables = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": interface}
                said = self.run({**more, **variables, "CNI_NETNS": ""}, json.dumps(config), ipam=ipam)
                assert (said.status, said.out) == (0, ""), said
            assert self.nothing_left()
        finally:
            self._added.clear()
            for pod in self.pods:
                self.host.pods.remove(pod.namespace.name)
                subprocess.run(("ip", "netns", "del", pod.namespace.name), check=False, capture_output=True)
            self.pods.clear()
            for path in self.tombstones():
                path.unlink()

    def tombstones(self) -> list[Path]:
        return sorted((self.host.place / "tombstones").glob("*"))


def soon(look: Callable[[], T], wanted: object, limit_s: float = _SETTLED_S) -> T:
    """What `look` sees, as soon as it is as wanted, or at the end of our patience."""
    limit = time.monotonic() + limit_s
    while (found := look()) != wanted and time.monotonic() < limit:
        time.sleep(0.02)
    return found


# What was said


def refused(said: Said, code: int, *words: str, version: str = "1.1.0") -> Document:
    """The error object of a call that failed with this code; `words` stand in msg or details."""
    body = failure(said)
    assert body["code"] == code, body
    assert body["cniVersion"] == version, body
    for word in words:
        assert word in body["msg"] + "\n" + body["details"], (word, body)
    return body


def failure(said: Said) -> Document:
    """The error object of a call that failed, whatever with: the SPEC's keys, and one object on standard output."""
    assert said.status == 1, said
    assert "Traceback" not in said.err, said.err
    body = said.json
    assert sorted(body) == ["cniVersion", "code", "details", "msg"], body
    assert body["code"] in CODES, body
    assert isinstance(body["details"], str), body
    assert isinstance(body["msg"], str), body
    assert body["msg"], body
    return body


def silent(said: Said) -> bool:
    """Whether a call succeeded and printed nothing, as DEL, CHECK, GC and STATUS do; says what it said."""
    assert (said.status, said.out) == (0, ""), said
    return True


# What is there


def wiring(where: Namespace) -> list[tuple[str, str, list[str]]]:
    """A namespace's interfaces: name, MAC, addresses. What changes by itself (flags, lifetimes) isn't in it."""
    rows = json.loads(where.run("ip", "-j", "addr"))
    return [(row["ifname"], row["address"], [one["local"] for one in row["addr_info"]]) for row in rows]


def interfaces(pod: Pod) -> list[str]:
    """A pod's interfaces, lo left out."""
    rows = json.loads(pod.namespace.run("ip", "-j", "link") or "[]")
    return [row["ifname"] for row in rows if row["ifname"] != "lo"]


def addresses(pod: Pod, interface: str = "eth0") -> list[str]:
    """A pod's own global addresses, with their prefix lengths, IPv4 first."""
    rows = json.loads(pod.namespace.run("ip", "-j", "addr", "show", "dev", interface))
    found = [row for row in rows[0]["addr_info"] if row["scope"] == "global"]
    return [f"{row['local']}/{row['prefixlen']}" for row in sorted(found, key=lambda row: str(row["family"]))]


async def _owned(store: Store) -> list[str]:
    blocks = (await store.list(IPBlock)).items
    return sorted(found.handle for block in blocks for found in block.spec.allocations.values())


async def _endpoints(store: Store) -> list[str]:
    return sorted(found.name for found in (await store.list(WorkloadEndpoint)).items)
