"""What went wrong with a server, as the store's errors.

    not connected                        anything                    -> Unavailable; credentials -> Forbidden
    reading                              anything                    -> Unavailable; privileges -> Forbidden
    writing, the server says ERROR       40003, 08xxx                -> Unknown
                                         22xxx, 54xxx                -> Invalid: what is to be stored is wrong
                                         42501                       -> Forbidden
                                         anything else               -> Unavailable: it rolled the transaction back
    writing, FATAL, PANIC or no answer                               -> Unknown

A server that reports an ERROR has aborted the transaction before it says so: with one statement a transaction, nothing
was committed. A connection that ends, for whatever reason, may have ended after the commit and before the answer.
Codes: PostgreSQL 15, appendix A. Messages of the server are told without DETAIL, which quotes what was to be stored.
"""

from enum import Enum, auto

import asyncpg

from datastore.errors import Forbidden, Invalid, StoreError, Unavailable, Unknown

_AUTHORIZATION = ("28", "42501")
_DATA = ("22", "54")
_IN_DOUBT = ("08", "40003")
_ITS_OWN = ("22", "23", "54")
_READ_ONLY = "25006"
_HINTS = {
    "0A000": "the tables were changed while they were in use",
    _READ_ONLY: "the server takes no writes: it is a standby, or set to be read-only",
    "3F000": "the schema is gone",
    "42883": "the schema is gone, or was made by another version",
    "42P01": "the schema is gone",
    "53300": "max_connections or a CONNECTION LIMIT is reached",
}


class Doing(Enum):
    """What was being done when it went wrong."""

    CONNECTING = auto()
    READING = auto()
    WRITING = auto()


def meaning(error: Exception, doing: Doing, where: str) -> StoreError:
    """The store's error for one of asyncpg's or the system's; `where` names the server."""
    found = error if isinstance(error, StoreError) else _meaning(error, doing, f"{where}: {told(error)}")
    found.__cause__ = None if found is error else error
    return found


def no_answer(doing: Doing, where: str, timeout_s: float) -> StoreError:
    """The error for a server that didn't answer."""
    kind = Unknown if doing is Doing.WRITING else Unavailable
    return kind(f"{where}: no answer within {timeout_s:g} s")


def lost(error: BaseException) -> bool:
    """Whether the connection is to be thrown away: it ended, or belongs to a server that isn't the right one."""
    return not isinstance(error, asyncpg.PostgresError) or _ends(error) or _code(error).startswith(("08", _READ_ONLY))


def one_members(error: BaseException) -> bool:
    """Whether one member of a group is to blame, by what it holds, and the server has applied nothing."""
    if isinstance(error, asyncpg.PostgresError):
        return not _ends(error) and _code(error).startswith(_ITS_OWN)
    return isinstance(error, UnicodeEncodeError)


def told(error: BaseException) -> str:
    """The error in one line."""
    code = _code(error)
    text = str(error.args[0] if code and error.args else error) or type(error).__name__
    text = text.replace("\n", " ")
    hint = _HINTS.get(code, "")
    return f"{text} ({hint + ', ' if hint else ''}{code})" if code else text


def _meaning(error: Exception, doing: Doing, message: str) -> StoreError:
    code = _code(error)
    if doing is Doing.CONNECTING:
        return (Forbidden if code.startswith(_AUTHORIZATION) else Unavailable)(message)
    if doing is Doing.WRITING and not _is_certain(error):
        return Unknown(message)
    if isinstance(error, UnicodeEncodeError) or code.startswith(_DATA):
        return Invalid("", message)
    return (Forbidden if code.startswith(_AUTHORIZATION) else Unavailable)(message)


def _is_certain(error: Exception) -> bool:
    """Whether nothing was committed."""
    if isinstance(error, asyncpg.PostgresError):
        return not _ends(error) and not _code(error).startswith(_IN_DOUBT)
    # asyncpg encodes all parameters before it sends the first byte; what it makes of most errors has the code 22000.
    return isinstance(error, UnicodeEncodeError)


def _ends(error: asyncpg.PostgresError) -> bool:
    return getattr(error, "severity_en", None) in ("FATAL", "PANIC") or _code(error).startswith("57P")


def _code(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")
