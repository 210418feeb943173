"""The conflist that `tortiectl host init` writes: our plugin, those chained after it, versions that all of them speak.

Two keys say the version, for two generations of runtimes: libcni before 1.2 (podman 4, containerd 1.6) knows
`cniVersion` alone and refuses 1.1.0 only after ADD has run; later ones take the highest of `cniVersions`. And a plugin
refuses what it doesn't speak at each call. So each is asked (VERSION), `cniVersions` has what all of them speak, and
`cniVersion` the newest of those that old runtimes take.

Sources: CNI SPEC 1.1.0 sections 1 and 2; libcni/conf.go; the README of each chained plugin.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NETWORK = "tortie"
FILE_NAME = "10-tortie.conflist"
"""Runtimes take the file that sorts first."""
PLUGIN_FOLDERS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
"""Where runtimes and distributions have plugins."""
_CONFIGURATIONS = (".conf", ".conflist", ".json")
_OLD_RUNTIMES_TAKE = (1, 0, 0)
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LIMIT_S = 10
_CHAINED: Mapping[str, Mapping[str, object]] = {
    "portmap": {"snat": True, "capabilities": {"portMappings": True}},
    "bandwidth": {"capabilities": {"bandwidth": True}},
    "tuning": {"capabilities": {"mac": True}},
}
"""What a chained plugin's object holds besides its type; others get the type alone."""


class ConflistError(Exception):
    """A conflist that would not work: a plugin is missing, says no version, or speaks none that the others do."""


@dataclass(frozen=True, slots=True)
class Network:
    """What a conflist is to say."""

    families: frozenset[int]
    """4, 6 or both."""
    chain: tuple[str, ...] = ()
    """Types of the plugins after ours, in order."""
    own: Mapping[str, str] | None = None
    """Keys for our plugin, such as `datastore` where it may have to do without an agent."""


def render(network: Network, versions: Sequence[str]) -> bytes:
    """The file's content; `versions` as `shared` gives them."""
    ipam = {"type": "tortie-ipam", "assign_ipv4": 4 in network.families, "assign_ipv6": 6 in network.families}
    ours = {"type": "tortie", "policy": {"type": "k8s"}, "ipam": ipam, **(network.own or {})}
    document = {
        "cniVersion": spoken_by_old_runtimes(versions),
        "cniVersions": list(versions),
        "name": NETWORK,
        "plugins": [ours, *({"type": kind, **_CHAINED.get(kind, {})} for kind in network.chain)],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def spoken_by_old_runtimes(versions: Sequence[str]) -> str:
    """The newest that libcni before 1.2 takes, else the oldest there is."""
    taken = [version for version in versions if _order(version) <= _OLD_RUNTIMES_TAKE]
    return max(taken, key=_order) if taken else min(versions, key=_order)


def shared(spoken: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The versions that every plugin speaks, oldest first; `spoken` is by plugin.

    Raises:
        ConflistError: there is none.
    """
    common = set.intersection(*(set(versions) for versions in spoken.values()))
    if not common:
        each = "; ".join(f"{name} speaks {', '.join(versions)}" for name, versions in spoken.items())
        raise ConflistError(f"these plugins have no CNI version in common: {each}")
    return tuple(sorted(common, key=_order))


def find(kind: str, folders: Iterable[Path]) -> Path:
    """The program of a plugin, from the first folder that has it.

    Raises:
        ConflistError: none has, or `kind` is no plugin's name.
    """
    if not _TYPE.fullmatch(kind):
        raise ConflistError(f"{kind[:80]!r} is no plugin's name")
    looked = tuple(dict.fromkeys(folders))
    for folder in looked:
        if os.access(folder / kind, os.X_OK) and (folder / kind).is_file():
            return folder / kind
    raise ConflistError(f"there is no plugin {kind} in {', '.join(map(str, looked))}")


def versions_of(program: Path) -> tuple[str, ...]:
    """What a plugin answers to VERSION, oldest first.

    Raises:
        ConflistError: it can't be run, or gives no answer that can be understood.
    """
    try:
        done = subprocess.run(
            (str(program),),
            input=json.dumps({"cniVersion": "1.0.0"}).encode(),
            env={"PATH": os.environ.get("PATH", ""), "CNI_COMMAND": "VERSION"},
            capture_output=True,
            check=True,
            timeout=_LIMIT_S,
        )
        answered = json.loads(done.stdout)["supportedVersions"]
        versions = {version for version in answered if _VERSION.fullmatch(version)}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise ConflistError(f"{program} can't say which CNI versions it speaks: {error}") from error
    if not versions:
        raise ConflistError(f"{program} speaks no CNI version")
    return tuple(sorted(versions, key=_order))


def before(folder: Path, name: str = FILE_NAME) -> list[Path]:
    """The configurations in a folder that runtimes take instead of the one called `name`."""
    if not folder.is_dir():
        return []
    return sorted(found for found in folder.iterdir() if found.suffix in _CONFIGURATIONS and found.name < name)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
