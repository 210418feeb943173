"""Ways in which a SQLite file stops taking writes, each ended at the end of its block.

    locked      another connection holds an exclusive lock, for longer than anybody waits
    read-only   file and folder, by a mount over them
    full disk   nothing is left on the file system of the file

An agent keeps its file open, and what is open for writing stays so whatever is mounted over it. So for read-only the
file is replaced by a copy, too, which is noticed at the next transaction; while that is made no write can pass.
"""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

_WAIT_S = 10


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """An exclusive lock, held by a connection of the test's own."""
    with closing(sqlite3.connect(database, timeout=_WAIT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def unwritable(database: Path) -> Iterator[None]:
    """Others may read, and wait to write: a write that is under way lands when this ends."""
    with closing(sqlite3.connect(database, timeout=_WAIT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def read_only(database: Path) -> Iterator[None]:
    """File and folder can't be written."""
    folder, sealed, way_in = database.parent, database.parent.with_name("sealed"), database.parent.with_name("way-in")
    for other in (sealed, way_in):
        other.mkdir(exist_ok=True)
        _mount("--bind", folder, other)
    _mount("-o", "remount,bind,ro", sealed)
    with closing(sqlite3.connect(database, timeout=_WAIT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        _mount("--move", sealed, folder)
        # By another process: once this one closed the file it would have its lock no more.
        subprocess.run(("cp", "--preserve=mode", str(way_in / database.name), str(way_in / "copy")), check=True)
        (way_in / "copy").replace(way_in / database.name)
    try:
        yield
    finally:
        for mounted in (folder, way_in):
            subprocess.run(("umount", "--lazy", str(mounted)), check=True)  # the agent has the file open


@contextmanager
def full(database: Path) -> Iterator[None]:
    """The disk is full, also for a journal: what an earlier transaction left of one is gone."""
    with ExitStack() as stack:
        with closing(sqlite3.connect(database, timeout=_WAIT_S, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            database.with_name(database.name + "-journal").unlink(missing_ok=True)
            stack.enter_context(filling(database.parent))
        yield


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Nothing is left on a folder's file system (a small one: `small_disk`)."""
    filler = folder / "filler"
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize < 1 << 24, "not a disk to fill"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 16, 4096, 1):
            try:
                while os.write(fd, b"\0" * size):
                    pass
            except OSError:
                continue
        yield
    finally:
        os.close(fd)
        filler.unlink()


@contextmanager
def small_disk(folder: Path, options: str = "size=4m,nr_inodes=500") -> Iterator[None]:
    """A file system of its own below `folder`."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


troubles = pytest.mark.parametrize(
    "trouble", [pytest.param(one, id=one.__name__.replace("_", " ")) for one in (locked, read_only, full)]
)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(("mount", *map(str, arguments)), check=True)
