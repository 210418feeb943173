"""SQLite failing on purpose: a real library, whose connections raise where a test says."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Fault = Callable[[str, Any], Exception | None]


def no_fault(_: str, __: object) -> Exception | None:
    return None


@dataclass
class Trouble:
    """What SQLite does to one test."""

    fault: Fault = no_fault
    """Asked for the first word of each statement, and its values."""
    after: bool = False
    """The statement runs before it fails."""
    set_up: str = ""
    """A statement that each new connection runs."""
    seen: list[str] = field(default_factory=list)
    """The first word of each statement."""

    @property
    def connection(self) -> type[sqlite3.Connection]:
        """Connections that are in this trouble."""
        trouble = self

        class FailingConnection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401  # as in typeshed
                verb = sql.split()[0]
                trouble.seen.append(verb)
                error = trouble.fault(verb, parameters)
                if error and not trouble.after:
                    raise error
                cursor = super().execute(sql, parameters)
                if error:
                    raise error
                if sql == "PRAGMA synchronous = FULL" and trouble.set_up:
                    super().execute(trouble.set_up)
                return cursor

        return FailingConnection


def result_of(kind: type[sqlite3.Error], code: int, name: str) -> sqlite3.Error:
    error = kind(name)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


IOERR = result_of(sqlite3.OperationalError, sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")


def on(verb: str, error: Exception) -> Fault:
    """Fail with `error` on every statement that begins with `verb`."""
    return lambda found, _: error if found == verb else None
