"""What `host init` was asked for and has made, in the state folder: by it init runs again and remove is its reverse.

It is written before anything is made, so that a run that died half-way has left nothing that it doesn't name.
"""

import os
import shutil
from pathlib import Path

import msgspec

from agent import files
from agent.host.errors import HostError
from agent.host.wishes import Wishes
from agent.options import DEFAULT_STATE
from datastore.transfer import follow

NAME = "installation.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    wishes: Wishes
    folders: tuple[str, ...] = ()
    """Made by init, in the order of making."""
    conflist: str = ""
    relays: tuple[str, ...] = ()
    unit: str = ""
    controller_unit: str = ""
    pools: tuple[str, ...] = ()
    """Names of those that init made."""
    datastore_file: str = ""
    """Where the datastore is a file that init made."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that init made, but the datastore's."""
        return tuple(path for path in (self.conflist, *self.relays, self.unit, self.controller_unit) if path)


def read(state: Path = DEFAULT_STATE) -> Manifest | None:
    """The manifest of a state folder, None where init has made nothing; its datastore is where it was moved to.

    Raises:
        HostError: it can't be understood.
        OSError: it can't be read.
    """
    try:
        made = msgspec.json.decode((state / NAME).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as error:
        raise HostError(f"{state / NAME} can't be understood: {error}", "was it changed by hand?") from error
    wishes = msgspec.structs.replace(made.wishes, datastore=follow.followed(state, made.wishes.datastore))
    return msgspec.structs.replace(made, wishes=wishes)


def write_in_a_new_folder(state: Path, manifest: Manifest) -> None:
    """Make a state folder that has its manifest from the first moment.

    Raises:
        OSError: it can't be made.
    """
    half_made = _half_made(state)
    remove_half_made(state)
    half_made.mkdir(mode=0o700)
    write(half_made, manifest)
    os.rename(half_made, state)


def remove_half_made(state: Path) -> None:
    """Remove what a run left that died before the state folder was there.

    Raises:
        OSError: it can't be removed.
    """
    if _half_made(state).exists():
        shutil.rmtree(_half_made(state))


def _half_made(state: Path) -> Path:
    return state.with_name(f".{state.name}.new")


def write(state: Path, manifest: Manifest) -> None:
    """Keep a manifest.

    Raises:
        OSError: it can't be written.
    """
    files.put(state / NAME, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n", 0o600)
