"""The database file: making it, opening it, and noticing that it was replaced.

A file is made with mode 0600 (its journal takes the same), its folder with 0700. Every lane has a connection of its
own, in autocommit: BEGIN and COMMIT are statements like others.
"""

import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from datastore.errors import Unavailable
from datastore.revisions import new_identity
from datastore.sql import schema
from datastore.sql.failures import PATIENCE_S, before_commit, patiently
from datastore.sql.journal import Journal

_JOURNAL_LIMIT = 1 << 22
"""Bytes to which a journal is cut back after a large transaction."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to get at a file."""

    path: Path
    journal: Journal
    patience_s: float = PATIENCE_S
    connection: type[sqlite3.Connection] = sqlite3.Connection
    """The tests' way to make SQLite fail."""


def prepare(access: Access) -> None:
    """Make file and tables where they are missing.

    Raises:
        Unavailable: that can't be done, or the file is another program's or a newer version's.
    """
    try:
        access.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            # Only a new file: closing any descriptor of an old one would drop the POSIX locks that connections of this
            # process hold on it.
            os.close(os.open(access.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(f"{access.path}: {error.strerror}") from error
    try:
        with closing(_connect(access)) as connection:  # closing rolls back what a failure left open
            patiently(lambda: connection.execute("BEGIN IMMEDIATE"), access.patience_s)
            _make_tables(connection, access.path)
            patiently(lambda: connection.execute("COMMIT"), access.patience_s)
            _set_journal(connection, access)  # only now: it writes to the file, which may have been a stranger's
    except Exception as error:
        raise before_commit(error, str(access.path)) from error


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        for table in schema.CREATE_TABLES:
            connection.execute(table)
        first = {"id": 1, "schema": schema.VERSION, "identity": new_identity(), "compacted": 0}
        connection.execute(schema.CREATE_STORE, first)
    elif schema.STORE.name not in tables:
        raise Unavailable(f"{path}: is another program's database")
    else:
        (version,) = connection.execute(schema.SCHEMA).fetchone()
        if version > schema.VERSION:
            raise Unavailable(f"{path}: has schema {version}, made by a newer version; this one reads {schema.VERSION}")


def _connect(access: Access) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(access.path))}?mode=rw",
        uri=True,
        timeout=0,  # `patiently` waits instead
        isolation_level=None,
        factory=access.connection,
    )


def _set_journal(connection: sqlite3.Connection, access: Access) -> None:
    pragma = f"PRAGMA journal_mode = {access.journal.mode}"
    (mode,) = patiently(lambda: connection.execute(pragma).fetchone(), access.patience_s)
    if mode != access.journal.mode:
        raise Unavailable(f"{access.path}: stays in journal mode {mode}, but {access.journal.reason}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}")


class File:
    """One thread's connection, opened when it is first asked for, and again once the file was replaced."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def connection(self) -> sqlite3.Connection:
        """The connection to the file that is there now.

        Raises:
            sqlite3.Error: it can't be opened.
            OSError: it isn't there.
            Unavailable: its journal mode can't be set.
        """
        if self._connection is None or self._there() != self._opened:
            self.close()
            # Asked for before it is opened: a file that is replaced in between differs at the next call.
            self._opened = self._there()
            self._connection = _connect(self._access)
            try:
                _set_journal(self._connection, self._access)
            except BaseException:
                self.close()
                raise
        return self._connection

    def touch(self) -> None:
        """Tell other processes, which watch the folder, that there is something to see (why so: `folder`)."""
        with suppress(OSError):
            os.utime(self._access.path)

    def roll_back(self) -> None:
        """End a transaction that may still be open; if that fails, with the connection, lest it keep its locks."""
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except Exception:  # what made the transaction fail is being told already
                self.close()

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _there(self) -> tuple[int, int]:
        found = self._access.path.stat()
        return found.st_dev, found.st_ino
