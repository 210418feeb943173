"""What readers ask, each by one statement, and so of one revision."""

from collections.abc import Sequence
from typing import cast

from datastore.errors import Unavailable
from datastore.postgresql.connection import Row, Session
from datastore.postgresql.reader import Reader
from datastore.postgresql.schema import Statements
from datastore.postgresql.writes import entry_of, identity_on
from datastore.record import Key
from datastore.resources.value import Resource
from datastore.revisions import History
from datastore.snapshot import Row as Found
from datastore.snapshot import Snapshot
from datastore.store import Where

_NEVER = 1 << 62
"""A number that no log reaches."""
_MAX_DIGITS = 18


async def get(reader: Reader, statements: Statements, key: Key) -> Snapshot:
    """One object, or no row."""
    session, rows = await reader.fetch(statements.get, key._asdict())
    return _snapshot(session, [(*row[:3], key.namespace, key.name, *row[3:]) for row in rows], key.kind)


async def list_all(reader: Reader, statements: Statements, kind: str, where: Where | None) -> Snapshot:
    """Every object of a kind, in `where`."""
    if where is None:
        session, rows = await reader.fetch(statements.list, {"kind": kind})
    elif where.field == "namespace":
        session, rows = await reader.fetch(statements.list_namespace, {"kind": kind, "namespace": where.value})
    else:
        entry = entry_of(where.field, where.value)
        session, rows = await reader.fetch(statements.list_entry, {"kind": kind, "entry": entry})
    return _snapshot(session, rows, kind)


async def since(
    reader: Reader, statements: Statements, kind: type[Resource], start: str, where: Where | None
) -> Snapshot:
    """What changed after `start`.

    Raises:
        Compacted: the log doesn't reach back to it.
    """
    full_name = kind.KIND.full_name
    entry = entry_of(where.field, where.value) if where else None
    after = {"kind": full_name, "after": _number(start), "entry": entry}
    session, rows = await reader.fetch(statements.since, after)
    history_of(session, rows).position(start, kind.KIND.name)
    return _snapshot(session, rows, full_name, is_difference=True)


def history_of(session: Session, rows: Sequence[Row]) -> History:
    """How far the log reaches, by the first columns of any row.

    Raises:
        Unavailable: there is no row, and so no store.
    """
    if not rows:
        raise Unavailable(f"{session.where}: the store is gone")
    identity, compacted, newest = rows[0][:3]
    return History(identity_on(session.timeline, str(identity)), cast("int", compacted), cast("int", newest))


def _snapshot(session: Session, rows: Sequence[Row], kind: str, *, is_difference: bool = False) -> Snapshot:
    found: list[Found] = []
    gone: list[Key] = []
    for _, _, _, namespace, name, number, body in rows:
        key = Key(kind, cast("str", namespace), cast("str", name))
        if number is not None:
            found.append((key, cast("int", number), cast("bytes", body)))
        elif is_difference and name is not None:
            gone.append(key)
    return Snapshot(history_of(session, rows), tuple(found), tuple(gone))


def _number(start: str) -> int:
    """Where to read the log from; whose revision it is can be judged when the store has named itself."""
    number = start.partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS else _NEVER
