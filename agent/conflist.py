"""The runtime's configuration, put into its folder once this agent serves: it is what makes a node Ready.

    file      as administrators have it (a ConfigMap's, whose volume changes by a link that is moved); looked at often
    folder    the runtime's; the file appears whole, and anew where somebody removed or changed it

A file that is no conflist isn't installed, and one that is there stays: a node that works isn't to end by a slip of
the pen. Runtimes take what sorts first, so another network's configuration before ours is told to people, and left.
Source: notes of CNI SPEC 1.1.0 section 1, "Configuration format"; containerd's loader in `agent.files`.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import files
from cni.conflist import before

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""Between looks. A kubelet itself takes up to a minute to bring a changed ConfigMap into a volume."""
_MODE = 0o644
_SIZE_MAX = 1 << 20


class NoConflist(Exception):
    """The file can't be read, or is no conflist with our plugin in it."""


@dataclass(frozen=True, slots=True)
class Places:
    """What is installed where."""

    file: Path
    folder: Path
    on_host: Path | None = None
    """What people on the host call the folder, where it is mounted elsewhere."""

    @property
    def called(self) -> Path:
        """The folder as people know it."""
        return self.on_host or self.folder

    @property
    def installed(self) -> Path:
        """Where it is to be."""
        return self.folder / self.file.name


class ConflistKeeper:
    """Keeps the conflist installed; `run` it once ADDs can be served."""

    def __init__(self, places: Places, tell: Callable[[str], None]) -> None:
        self.reason = "the conflist isn't installed yet"
        """Why pods can't come by way of it; empty once it is there."""
        self.warning = ""
        """What somebody should look at."""
        self._places = places
        self._tell = tell
        self._others = ""

    async def run(self) -> None:
        """Install it, and keep it so, without end."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Install it if it isn't there as it should be; tell what sorts before it."""
        places = self._places
        try:
            content = read(places.file)
            if not files.is_so(places.installed, content, _MODE):
                files.put(places.installed, content, _MODE)
                log.info("installed %s", places.installed)
            self.reason = wrong = ""
        except (NoConflist, OSError) as error:
            wrong = f"{places.installed} can't be installed: {error}"
            self.reason = "" if places.installed.exists() else wrong
            if wrong != self.warning:
                log.error("%s", wrong)
        others = self._sorted_first()
        self.warning = wrong or others
        if others and others != self._others:
            log.warning("%s", others)
        if others:
            self._tell(others)
        self._others = others

    def _sorted_first(self) -> str:
        places = self._places
        try:
            found = [path.name for path in before(places.folder, places.file.name)]
        except OSError as error:
            return f"{places.folder} can't be read: {error}"
        if not found:
            return ""
        first = places.called / found[0]
        return (
            f"runtimes take {', '.join(found)} before {places.file.name} in {places.called}, so new pods of this node "
            f"aren't in tortie's network; if they are to be, on the node: mv {first} {first}.disabled"
        )


def read(path: Path) -> bytes:
    """A conflist's content.

    Raises:
        NoConflist: it is none that a runtime could use for us; says why.
    """
    try:
        content = path.read_bytes()
        found = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise NoConflist(f"{path}: {error}") from error
    plugins = found.get("plugins") if isinstance(found, dict) else None
    if not isinstance(plugins, list) or not plugins or not all(isinstance(one, dict) for one in plugins):
        raise NoConflist(f"{path} is no conflist: it has no plugins")
    if len(content) > _SIZE_MAX or not isinstance(found.get("name"), str) or not found["name"]:
        raise NoConflist(f"{path} is no conflist: it has no name")
    if not any(str(one.get("type", "")).startswith("tortie") for one in plugins):
        raise NoConflist(f"{path} has no plugin tortie")
    return content
