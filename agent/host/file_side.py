"""Files and folders of ours on a host, removed: by name, so that what somebody else put beside them stays."""

import os
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from agent import alone, files
from agent.host.doing import Doing
from datastore.transfer import follow

_OF_STATE = ("attachments", "journal", "handles")
_FILES = ("agent.sock", "controller.sock", "ipam.sock", "boot-id", alone.NAME, follow.NAME)
_SHOWN = 5


def folders_of_ours(state: Path, run: Path) -> tuple[Path, ...]:
    """What agents and plugins keep in folders of the two folders."""
    return (*(state / name for name in _OF_STATE), run / "tombstones")


def files_of_ours(state: Path, socket: Path) -> tuple[Path, ...]:
    """Their files; the note of settings goes when those are put back."""
    return (*(state / name for name in _FILES), socket, socket.with_suffix(".new"))


def remove_file(path: Path, doing: Doing) -> bool:
    """Remove a file, or a link; gives whether there was one.

    Raises:
        OSError: it can't be removed.
    """
    if not os.path.lexists(path):
        if not doing.dry:
            files.remove(path)  # what a write of it that died has left
        return False
    doing.do(str(path), "removed", partial(files.remove, path))
    return True


def remove_trees(folders: Iterable[Path], doing: Doing) -> None:
    """Remove folders with everything in them.

    Raises:
        OSError: one can't be removed.
    """
    for path in folders:
        if path.is_dir():
            doing.do(str(path), "removed", partial(shutil.rmtree, path))


def remove_folders(folders: Sequence[Path], doing: Doing) -> None:
    """Remove folders that are empty by now, the last first; one that isn't, or that is mounted, stays and is told."""
    for path in reversed(folders):
        if not path.is_dir():
            continue
        left = sorted(one.name for one in path.iterdir() if str(one) not in doing.done)
        if left:
            doing.tell(f"{path}: stays, for it isn't empty: {', '.join(left[:_SHOWN])}")
            continue
        try:
            doing.do(str(path), "removed", path.rmdir)
        except OSError as error:
            doing.tell(f"{path}: stays after all: {error.strerror}")
