"""Which cluster a command is about: --datastore URL, or a lab's folder (--state DIR)."""

import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import click

from ctl.failures import UNREACHABLE, Failure
from datastore.memory import MemoryStore
from datastore.store import Store
from datastore.transfer import mark
from datastore.urls import parse
from lab.state import Folder, LabState, default_folder

R = TypeVar("R")
_SQLITE = "sqlite://"


@dataclass(frozen=True, slots=True)
class Location:
    """A datastore, and the lab that runs on it if one does."""

    url: str
    folder: Folder | None

    @asynccontextmanager
    async def store(self, *, create: bool = False) -> AsyncIterator[Store]:
        """The datastore, opened. Where there is none, one is made only with `create`; otherwise it is as an empty one.

        Raises:
            Failure: it would be nobody else's, or there is not even a folder.
        """
        address = parse(self.url)
        if not address.shared:
            hint = "give the cluster's own: sqlite:///..."
            raise Failure(f"{self.url} is this command's alone, and empty", hint=hint)
        if address.path is not None and not create and not _is_there(address.path):
            click.echo(f"no datastore at {address.path} yet: an agent or `tortiectl apply` makes it", err=True)
            yield MemoryStore()
            return
        store = await address.open()
        try:
            await _check_not_left(store, writes=create)
            yield store
        finally:
            await store.close()

    def check_there(self) -> None:
        """Return if there is a datastore, or one that can't be looked at without asking it.

        Raises:
            Failure: there is none.
        """
        path = parse(self.url).path
        if path is not None and not _is_there(path):
            raise Failure(f"there is no datastore at {path}", UNREACHABLE, "mistyped?")

    def lab(self) -> LabState | None:
        """The lab that runs here, None if none does."""
        state = self.folder.read() if self.folder is not None else None
        return state if state is not None and state.holder.process.alive else None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person said of which cluster is meant."""

    datastore: str | None
    state: Path | None

    def folder(self) -> Folder:
        """The lab's folder: --state, else the one whose datastore is given, else the default."""
        if self.state is not None:
            return Folder(Path(os.path.abspath(self.state)))
        if self.datastore and self.datastore.startswith(_SQLITE) and self.datastore.endswith("/tortie.db"):
            beside = Path(unquote(self.datastore.removeprefix(_SQLITE))).parent
            if (beside / "lab.json").exists():
                return Folder(beside)
        return Folder(default_folder())

    def locate(self) -> Location:
        """The cluster: the datastore if one is given, else the lab's.

        Raises:
            Failure: neither is given and no lab runs in the default place.
        """
        folder = self.folder()
        if self.datastore:
            return Location(self.datastore, folder if self.datastore == folder.datastore else None)
        if folder.read() is None:
            hint = "start one: tortiectl lab up; or give --datastore"
            raise Failure(f"no lab runs at {folder.path}", UNREACHABLE, hint)
        return Location(folder.datastore, folder)


async def _check_not_left(store: Store, *, writes: bool) -> None:
    """Tell of a datastore that was left for another, where nothing counts any more.

    Raises:
        Failure: it was, and is about to be written.
    """
    migration = mark.migration_of(await mark.read(store))
    if migration is None or migration.phase != mark.MOVED:
        return
    told = f"this datastore was left for {mark.said(migration.to)}, which counts now"
    if writes:
        raise Failure(told, 1, "give --datastore URL of that one")
    click.echo(f"{told}: give --datastore URL of that one", err=True)


def _is_there(path: Path) -> bool:
    """Whether a database's file is there.

    Raises:
        Failure: not even its folder is.
    """
    try:
        found, folder = path.exists(), path.parent.exists()
    except OSError as error:
        raise Failure(f"{str(path)[:200]}: {error.strerror}", UNREACHABLE, "mistyped?") from error
    if not folder:
        raise Failure(f"there is no folder {path.parent} for a datastore", UNREACHABLE, "mistyped?")
    return found


def cluster_options(command: Callable[..., R]) -> Callable[..., R]:
    """--datastore and --state, which come to the command as one parameter, `cluster`."""

    @click.option("--datastore", envvar="TORTIE_DATASTORE", metavar="URL", help="The cluster's [$TORTIE_DATASTORE].")
    @click.option("--state", envvar="TORTIE_STATE", type=click.Path(path_type=Path), help="A lab's [$TORTIE_STATE].")
    @functools.wraps(command)
    def with_cluster(*args: object, datastore: str | None, state: Path | None, **kwargs: object) -> R:
        return command(*args, cluster=Choice(datastore, state), **kwargs)

    return with_cluster
