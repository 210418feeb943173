"""SQLite's exceptions as the store's, and patience with a busy file.

    before COMMIT   anything             -> Unavailable   nothing is committed; a hot journal is rolled back later
    at COMMIT       BUSY, LOCKED, FULL   -> Unavailable   the transaction is still open, or was rolled back
                    anything else        -> Unknown       above all IOERR: the journal's header may have been
                                                          zeroed, which is the commit, before its fsync failed

Result codes: sqlite.org/rescode.html; Python gives them since 3.11.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from datastore.errors import Invalid, StoreError, Unavailable, Unknown

T = TypeVar("T")

PATIENCE_S = 5.0
"""How long one transaction waits for other processes' transactions, each of which takes about a millisecond."""
_FIRST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.004
"""SQLite's own busy handler sleeps for up to 100 ms, two hundred times as long as a commit holds the lock."""
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NOT_COMMITTED = (*_BUSY, sqlite3.SQLITE_FULL)


def patiently(step: Callable[[], T], patience_s: float, since: float | None = None) -> T:
    """What `step` gives once the file isn't busy; `step` must have changed nothing when it finds it so.

    Raises:
        sqlite3.Error: as `step` did; busy, after `patience_s` (counted from `since`, if that was earlier).
    """
    deadline = (time.monotonic() if since is None else since) + patience_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def is_busy(error: Exception) -> bool:
    """Whether another connection holds a lock that this one needs."""
    return _code(error) in _BUSY


def is_the_files(error: Exception) -> bool:
    """Whether the file or its disk failed, rather than one statement for what it holds."""
    return isinstance(error, sqlite3.OperationalError | MemoryError) or type(error) is sqlite3.DatabaseError


def before_commit(error: Exception, path: str) -> StoreError:
    """What an exception means that came while nothing was committed."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, UnicodeError):
        return _caused(Invalid("", f"holds text that is no Unicode: {error}"), error)
    return _caused(Unavailable(f"{path}: {_told(error)}"), error)


def at_commit(error: Exception, path: str) -> StoreError:
    """What an exception means that COMMIT raised."""
    if _code(error) in _NOT_COMMITTED:
        return _caused(Unavailable(f"{path}: {_told(error)}"), error)
    return _caused(Unknown(f"{path}: the commit may have failed: {_told(error)}"), error)


def _caused(error: StoreError, cause: Exception) -> StoreError:
    error.__cause__ = cause
    return error


def _code(error: Exception) -> int:
    # The low byte is the primary code, without which kind of I/O error or busy it was.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _told(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{error} ({name})"
