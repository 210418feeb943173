"""What readers ask of a connection, each within one transaction, and so of one revision."""

import sqlite3
from dataclasses import dataclass
from typing import TypeVar

from datastore import feed
from datastore.errors import NotFound
from datastore.feed import Change
from datastore.record import Key, resource_of
from datastore.resources.value import Resource, key_of
from datastore.revisions import History, Stamp
from datastore.sql import schema
from datastore.sql.writes import history, indexed_from
from datastore.store import Batch, Gone, Listing, Where

R = TypeVar("R", bound=Resource)

Row = tuple[Key, int, bytes]
"""An object's place, number and body, not yet decoded: that is done when the file is free again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows of one revision, and what is gone since the one that was asked about."""

    history: History
    rows: tuple[Row, ...]
    gone: tuple[Key, ...] = ()

    def resources(self, kind: type[R]) -> tuple[R, ...]:
        """The rows decoded.

        Raises:
            Invalid: one of them is no `kind`.
        """
        identity = self.history.identity
        return tuple(resource_of(kind, key, body, Stamp(number, identity).text) for key, number, body in self.rows)

    def listing(self, kind: type[R]) -> Listing[R]:
        """As a list gives it."""
        return Listing(self.resources(kind), self.history.revision)

    def batch(self, kind: type[R]) -> Batch[R]:
        """As a watch gives it."""
        gone = tuple(Gone(key.namespace, key.name) for key in self.gone)
        return Batch((*self.resources(kind), *gone), self.history.revision)

    def only(self, kind: type[R], key: Key) -> R:
        """The one row.

        Raises:
            NotFound: there is none.
        """
        if not self.rows:
            raise NotFound(key_of(kind, key.name, key.namespace), self.history.revision)
        return self.resources(kind)[0]


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
