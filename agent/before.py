"""How this host's settings were before an agent changed them: kept, so that `tortiectl host remove` can put them back.

    STATE/before.json    {"where": boot and network namespace, "settings": {"net/ipv4/ip_forward": "0", ...}}

Turning forwarding on is one write, and the kernel makes many of it: every link's own `forwarding`, and IPv4's
`accept_redirects` (net/ipv4/devinet.c, inet_forward_change). All of them are noted before the first change; a later
start finds the note and leaves it alone. A note of another boot is worth nothing: the boot has set everything anew.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from agent import files
from kernel import sysctl
from kernel.links import HOST_PREFIX

log = logging.getLogger(__name__)

_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
_FOLLOWING = ("net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/*/forwarding", "net/ipv6/conf/*/forwarding")
_ON = "1"


class Note(msgspec.Struct, frozen=True):
    """The file."""

    where: str
    settings: Mapping[str, str]


def note_path(state: Path) -> Path:
    """Where the note is, for an agent's state folder."""
    return state / "before.json"


def turn_forwarding_on(state: Path) -> None:
    """Make this host a router, noting first how it was.

    Raises:
        SettingRefused: a setting can't be changed.
        OSError: the note can't be written.
    """
    wanted = [path for path in _FORWARDING if sysctl.read(path) not in ("", _ON)]
    if wanted and _noted(state) is None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.put(note_path(state), msgspec.json.encode(Note(_here(), _settings())), 0o600)
    for path in wanted:
        sysctl.write(path, _ON)


def put_back(state: Path) -> list[str]:
    """Set everything as it was noted, drop the note, and give what was changed, in words.

    Raises:
        SettingRefused: a setting can't be changed; the note stays.
    """
    note = _noted(state)
    changed = []
    for path, value in note.settings.items() if note is not None else ():
        now = sysctl.read(path)
        if now not in ("", value):  # "": a link that has gone
            sysctl.write(path, value)
            changed.append(f"{path.replace('/', '.')} = {value}")
    files.remove(note_path(state))
    return changed


def to_put_back(state: Path) -> list[str]:
    """What `put_back` would change, in the same words."""
    note = _noted(state)
    settings = note.settings if note is not None else {}
    now, changed = {path: sysctl.read(path) for path in settings}, []
    for path, value in settings.items():
        if now[path] not in ("", value):
            changed.append(f"{path.replace('/', '.')} = {value}")
            now.update(_swept(path, value, settings))
    return changed


def _swept(path: str, value: str, among: Iterable[str]) -> dict[str, str]:
    """What the kernel sets along with one of `_FORWARDING`."""
    if path not in _FORWARDING:
        return {}
    family = path.split("/")[1]
    following = {one: value for one in among if one.startswith(f"net/{family}/conf/") and one.endswith("/forwarding")}
    if family == "ipv4":
        following["net/ipv4/conf/all/accept_redirects"] = "0" if value == _ON else _ON
    return following


def _settings() -> dict[str, str]:
    """What the change touches, as it is now: in the order in which it must be put back, the sweeping ones first."""
    paths = [*_FORWARDING, *(path for pattern in _FOLLOWING for path in sysctl.matching(pattern))]
    ours = tuple(f"net/ipv{family}/conf/{HOST_PREFIX}" for family in "46")
    found = {path: sysctl.read(path) for path in paths if not path.startswith(ours)}
    return {path: value for path, value in found.items() if value}


def _noted(state: Path) -> Note | None:
    """The note of this boot and network namespace."""
    try:
        found = msgspec.json.decode(note_path(state).read_bytes(), type=Note)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        log.warning("%s can't be read, so it is written anew: %s", note_path(state), error)
        return None
    return found if found.where == _here() else None


def _here() -> str:
    return f"{sysctl.read('kernel/random/boot_id')} {os.stat('/proc/thread-self/ns/net').st_ino}"
