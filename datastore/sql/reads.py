"""What readers ask of a connection, each within one transaction, and so of one revision."""

import sqlite3

from datastore import feed
from datastore.feed import Change
from datastore.record import Key
from datastore.resources.value import Resource
from datastore.revisions import History
from datastore.snapshot import Row, Snapshot
from datastore.sql import schema
from datastore.sql.writes import history, indexed_from
from datastore.store import Where


def get(connection: sqlite3.Connection, key: Key) -> Snapshot:
    """One object, or no row."""
    return Snapshot(history(connection), _rows(connection, (key,)))


def list_all(connection: sqlite3.Connection, kind: str, where: Where | None) -> Snapshot:
    """Every object of a kind, in `where`."""
    if where is None:
        statement, field = schema.LIST, {}
    elif where.field == "namespace":
        statement, field = schema.LIST_NAMESPACE, {"value": where.value}
    else:
        statement, field = schema.LIST_FIELD, {"field": where.field, "value": where.value}
    found = connection.execute(statement, {"kind": kind, **field}).fetchall()
    rows = tuple((Key(kind, namespace, name), number, body) for namespace, name, number, body in found)
    return Snapshot(history(connection), rows)


def since(connection: sqlite3.Connection, kind: type[Resource], start: str, where: Where | None) -> Snapshot:
    """What changed after `start`.

    Raises:
        Compacted: the log doesn't reach back to it.
    """
    reach = history(connection)
    position = reach.position(start, kind.KIND.name)
    if position == reach.newest:
        return Snapshot(reach, ())
    full_name = kind.KIND.full_name
    entries = connection.execute(schema.CHANGES, {"after": position, "kind": full_name}).fetchall()
    difference = feed.merge(
        (
            Change(Key(full_name, namespace, name), indexed_from(was), indexed_from(now))
            for namespace, name, was, now in entries
        ),
        where,
    )
    return Snapshot(reach, _rows(connection, difference.present), difference.gone)


def changed_kinds(connection: sqlite3.Connection, after: int) -> tuple[History, frozenset[str]]:
    """How far the log reaches, and the kinds with entries after a number."""
    reach = history(connection)
    if reach.newest == after:
        return reach, frozenset()
    return reach, frozenset(kind for (kind,) in connection.execute(schema.CHANGED_KINDS, {"after": after}))


def _rows(connection: sqlite3.Connection, keys: tuple[Key, ...]) -> tuple[Row, ...]:
    found = ((key, connection.execute(schema.GET, key._asdict()).fetchone()) for key in keys)
    return tuple((key, *row) for key, row in found if row)
