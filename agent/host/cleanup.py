"""`node cleanup`: everything of ours off a node that Kubernetes' objects, or a person, made one; `host remove`'s half.

    refuse     where `host init` was (its manifest knows more), and while an agent runs
    conflist   if it calls our plugin
    kernel     portmap's chains of pods that are attached, rules, sets, routes, links; settings as they were noted
    relay      if it is one of ours
    files, folders

The datastore is left alone: its objects go with `kubectl delete`, and the controller gives back what a Node had. All is
found by what it is, not by a list of what was made, so it may be run on any node, and again.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from agent import asking, before
from agent.host import file_side, kernel_side, manifest, portmap_side, service
from agent.host.doing import Doing
from agent.host.errors import HostError
from agent.host.relay import PROGRAMS
from cni import conflist
from cni.records import Records
from kernel.runner import CommandRunner

_NO = 1
_MARK = b"TORTIE_"
"""In every relay and script of ours: the variables that they read begin so."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's things are."""

    state: Path
    socket: Path
    conf_dir: Path
    bin_dir: Path


async def cleanup(place: Place, doing: Doing, *, force: bool) -> list[str]:
    """Remove what is ours; gives what a person should know besides.

    Raises:
        HostError: `host init` made this node, or an agent runs and isn't to be ended, or can't be.
        KernelError, OSError: something can't be removed; running it again goes on.
    """
    if manifest.read(place.state) is not None:
        raise HostError("`tortiectl host init` made this host a node", "tortiectl host remove undoes it", _NO)
    _end_agent(place, doing, force=force)
    advice = [*_pods(place), *_conflists(place, doing)]
    portmap_side.clean(_attachments(place), CommandRunner(), doing)
    await kernel_side.clean(doing)
    for what in before.to_put_back(place.state) if doing.dry else before.put_back(place.state):
        doing.note(f"setting {what}", "put back")
    if doing.dry:
        doing.done.append(str(before.note_path(place.state)))
    advice += _programs(place, doing)
    file_side.remove_trees(file_side.folders_of_ours(place.state, place.socket.parent), doing)
    for path in file_side.files_of_ours(place.state, place.socket):
        file_side.remove_file(path, doing)
    file_side.remove_folders([place.state, place.socket.parent], doing)
    return advice


def _end_agent(place: Place, doing: Doing, *, force: bool) -> None:
    control = place.state / "agent.sock"
    if asking.status(control) is None:
        return
    if not force:
        hint = "kubectl -n tortie-system delete daemonset tortie-agent, or --force ends it"
        raise HostError(f"an agent runs here (it answers at {control})", hint, _NO)
    if asking.process_at(control) is None:
        hint = "kubectl -n tortie-system delete daemonset tortie-agent"
        raise HostError("the agent runs in a container and can't be ended from here", hint, _NO)
    doing.do("agent", "ended", lambda: service.end(place.state))


def _pods(place: Place) -> list[str]:
    if not (place.state / "attachments").is_dir():
        return []
    pods = sorted({f"{record.namespace}/{record.pod}" for record in Records(place.state).all()})
    if not pods:
        return []
    more = f" and {len(pods) - _SHOWN} more" if len(pods) > _SHOWN else ""
    return [f"{len(pods)} pods have no network without it, delete them: {', '.join(pods[:_SHOWN])}{more}"]


def _attachments(place: Place) -> list[tuple[str, str]]:
    if not (place.state / "attachments").is_dir():
        return []
    return [(record.network, record.container_id) for record in Records(place.state).all()]


def _conflists(place: Place, doing: Doing) -> list[str]:
    """Remove our conflist; gives those of others that call our plugins."""
    advice = []
    for path in sorted(place.conf_dir.glob("*")) if place.conf_dir.is_dir() else ():
        if not _calls_ours(path):
            continue
        if path.name == conflist.FILE_NAME:
            file_side.remove_file(path, doing)
        else:
            advice.append(f"{path} calls our plugin and isn't ours: it stays, and fails from now on")
    return advice


def _calls_ours(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
        plugins = document.get("plugins") or [document]
        kinds = {kind for one in plugins for kind in (one.get("type"), (one.get("ipam") or {}).get("type"))}
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    return bool(kinds & set(PROGRAMS))


def _programs(place: Place, doing: Doing) -> list[str]:
    advice = []
    for path in (place.bin_dir / name for name in PROGRAMS):
        if path.is_file() and _MARK not in path.read_bytes():
            advice.append(f"{path} stays: it is no program of ours")
        else:
            file_side.remove_file(path, doing)
    return advice
