"""A runtime's side of CNI: run a conflist's plugins as libcni does, for the lab and the tests.

ADD runs the plugins in order, each with the result of the one before as `prevResult`, and keeps the last in a cache;
DEL runs them in reverse with the cached result; a failed ADD is followed by the whole DEL. Only what the conflist says
and the caller gives goes to a plugin: CNI_* variables, and on standard input its own object with `name`, `cniVersion`,
`prevResult`, and of `runtimeConfig` the capabilities it declares.

Sources: CNI SPEC 1.1.0 section 3; libcni/api.go.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cni.netconf import is_name
from cni.result import SUPPORTED_VERSIONS

LIMIT_S = 120
"""A plugin's time, as a kubelet's: four minutes for ADD, two for DEL; ours are quicker."""

Document = dict[str, Any]


class ChainError(Exception):
    """A conflist that can't be run, or a plugin that failed; `code` is the plugin's (0: none came)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Conflist:
    """A network: its plugins in order."""

    name: str
    version: str
    plugins: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """What is attached: CNI's parameters for one call."""

    id: str
    netns: str
    interface: str = "eth0"
    args: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Keys merged into every plugin's object, such as `args`."""
    capabilities: Mapping[str, object] = field(default_factory=dict)


def read_conflist(text: str, source: str = "conflist") -> Conflist:
    """The network in a .conflist file's text, at the newest version that it and we speak.

    Raises:
        ChainError: no JSON, or keys missing; names `source`.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ChainError(f"{source} is no JSON: {error}") from None
    plugins = document.get("plugins") if isinstance(document, dict) else None
    if not isinstance(plugins, list) or not plugins or not all(isinstance(one, dict) for one in plugins):
        raise ChainError(f"{source}: plugins is no list of objects")
    name = document.get("name")
    if not isinstance(name, str) or not is_name(name):
        raise ChainError(f"{source}: name is missing, or no name for a network")
    if any(not isinstance(one.get("type"), str) or "/" in one["type"] for one in plugins):
        raise ChainError(f"{source}: a plugin has no type, or one that is a path")
    offered = [document.get("cniVersion"), *(document.get("cniVersions") or [])]
    spoken = [version for version in SUPPORTED_VERSIONS if version in offered]
    if not spoken:
        raise ChainError(f"{source}: cniVersion {document.get('cniVersion')!r} is none of {SUPPORTED_VERSIONS}")
    return Conflist(name, spoken[-1], tuple(plugins))


class Chain:
    """Runs one network's plugins; results are cached in a folder, for DEL."""

    def __init__(
        self,
        conflist: Conflist,
        path: Sequence[Path],
        cache: Path,
        environment: Mapping[str, str],
        prefix: Sequence[str] = (),
        limit_s: float = LIMIT_S,
    ) -> None:
        self._conflist = conflist
        self._path = tuple(path)
        self._cache = cache
        self._environment = dict(environment)
        self._prefix = tuple(prefix)
        """A command that runs each plugin elsewhere, such as nsenter with its arguments."""
        self._limit_s = limit_s

    def add(self, container: Container) -> Document:
        """Attach; gives the last plugin's result. What a failed ADD left is deleted again.

        Raises:
            ChainError: a plugin failed, or its result can't be kept.
        """
        result: Document | None = None
        try:
            for plugin in self._conflist.plugins:
                result = self._run("ADD", plugin, container, result)
            self._keep(container, result)
        except ChainError:
            self._delete(container, None, ignore_errors=True)
            raise
        return result or {}

    def delete(self, container: Container) -> None:
        """Detach, in reverse, with the cached result where there is one.

        Raises:
            ChainError: a plugin failed; the cache is kept, so that DEL can be tried again.
        """
        cached = self._cached(container)
        previous = json.loads(cached.read_text()) if cached.exists() else None
        self._delete(container, previous, ignore_errors=False)
        cached.unlink(missing_ok=True)

    def check(self, container: Container) -> None:
        """Ask every plugin whether all is as the cached result says.

        Raises:
            ChainError: a plugin found something, or nothing is cached.
        """
        cached = self._cached(container)
        if not cached.exists():
            raise ChainError(f"nothing is known of container {container.id} in {self._conflist.name}")
        previous = json.loads(cached.read_text())
        for plugin in self._conflist.plugins:
            self._run("CHECK", plugin, container, previous)

    def status(self) -> None:
        """Ask every plugin whether it could serve an ADD.

        Raises:
            ChainError: one couldn't; `code` says how bad it is.
        """
        for plugin in self._conflist.plugins:
            self._run("STATUS", plugin, None, None)

    def collect(self, valid: Sequence[Container]) -> None:
        """GC: tell every plugin what is still there, so that it removes the rest.

        Raises:
            ChainError: a plugin failed; the others were told all the same.
        """
        attachments = [{"containerID": one.id, "ifname": one.interface} for one in valid]
        failure: ChainError | None = None
        for plugin in self._conflist.plugins:
            try:
                self._run("GC", {**plugin, "cni.dev/valid-attachments": attachments}, None, None)
            except ChainError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _delete(self, container: Container, previous: Document | None, *, ignore_errors: bool) -> None:
        for plugin in reversed(self._conflist.plugins):
            try:
                self._run("DEL", plugin, container, previous)
            except ChainError:
                if not ignore_errors:
                    raise

    def _run(
        self, command: str, plugin: Document, container: Container | None, previous: Document | None
    ) -> Document | None:
        environment = self._environment | {
            "CNI_COMMAND": command,
            "CNI_PATH": os.pathsep.join(map(str, self._path)),
        }
        if container is not None:
            environment |= {
                "CNI_CONTAINERID": container.id,
                "CNI_NETNS": container.netns,
                "CNI_IFNAME": container.interface,
                "CNI_ARGS": container.args,
            }
        stdin = json.dumps(self._request(plugin, container, previous)).encode()
        done = self._execute(str(self._find(plugin["type"])), environment, stdin)
        if done.returncode:
            raise _failure(plugin["type"], command, done)
        return _result(plugin["type"], done.stdout) if command == "ADD" else None

    def _execute(
        self, program: str, environment: Mapping[str, str], stdin: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [*self._prefix, program],
                input=stdin,
                env=environment,
                capture_output=True,
                check=False,
                timeout=self._limit_s,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChainError(f"{program} could not be run: {error}") from error

    def _request(self, plugin: Document, container: Container | None, previous: Document | None) -> Document:
        request: Document = {**plugin, **(container.extra if container is not None else {})}
        request |= {"name": self._conflist.name, "cniVersion": self._conflist.version}
        declared = plugin.get("capabilities") or {}
        asked = container.capabilities if container is not None else {}
        given = {key: value for key, value in asked.items() if declared.get(key)}
        if given:
            request["runtimeConfig"] = given
        if previous is not None:
            request["prevResult"] = previous
        return request

    def _find(self, kind: str) -> Path:
        for folder in self._path:
            if (folder / kind).is_file():
                return folder / kind
        raise ChainError(f"no plugin {kind!r} in {os.pathsep.join(map(str, self._path))}")

    def _keep(self, container: Container, result: Document | None) -> None:
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._cached(container).write_text(json.dumps(result))
        except OSError as error:
            raise ChainError(f"the result can't be kept: {error}") from error

    def _cached(self, container: Container) -> Path:
        return self._cache / f"{self._conflist.name}-{container.id}-{container.interface}.json"


def cached_results(cache: Path, container_id: str) -> list[Document]:
    """What a container's ADDs gave, of every network and interface that it is attached by."""
    return [json.loads(path.read_text()) for path in sorted(cache.glob(f"*-{container_id}-*.json"))]


def _result(kind: str, stdout: bytes) -> Document:
    try:
        found = json.loads(stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ChainError(f"{kind} ADD gave no result: {stdout[:200].decode(errors='replace')!r}")
    return cast("Document", found)


def _failure(kind: str, command: str, done: subprocess.CompletedProcess[bytes]) -> ChainError:
    try:
        body = json.loads(done.stdout)
        details = f": {body['details']}" if body.get("details") else ""
        return ChainError(f"{kind} {command} failed: {body['msg']}{details} (code {body['code']})", int(body["code"]))
    except (ValueError, KeyError, TypeError):
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        return ChainError(f"{kind} {command} ended with {done.returncode}: {said[:400] or 'no message'}")
