"""A group of writes in one transaction.

Each write compares before it changes anything, so one that is refused leaves nothing to undo and the others never
notice. The log entry comes first, since its number is the object's new revision.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from datastore.errors import AlreadyExists, Conflict, NotFound, StoreError
from datastore.record import Indexed, Key
from datastore.revisions import History, Stamp, number_of
from datastore.sql import schema


class Verb(Enum):
    """What a write does."""

    CREATE = auto()
    UPDATE = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class Write:
    """One write, encoded; a delete has neither body nor fields."""

    verb: Verb
    key: Key
    called: str
    """How messages name the object."""
    revision: str
    """The one it must be at."""
    indexed: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction changed: the numbers it gave, and the kinds."""

    first: int
    last: int
    identity: str
    kinds: frozenset[str]


def indexed_text(indexed: Indexed) -> str:
    """Indexed fields as a column holds them."""
    return msgspec.json.encode(sorted(indexed)).decode()


_INDEXED = msgspec.json.Decoder(Indexed)


def indexed_from(text: str | None) -> Indexed | None:
    """What `indexed_text` wrote; None for no object."""
    return None if text is None else _INDEXED.decode(text)


def history(connection: sqlite3.Connection) -> History:
    """How far the log reaches, within the present transaction."""
    return History(*connection.execute(schema.HISTORY).fetchone())


def apply(
    connection: sqlite3.Connection, writes: Sequence[Write], keep: int
) -> tuple[list[Stamp | StoreError], Committed | None]:
    """Do `writes` in order within the present transaction: the outcome of each, and what they changed together.

    Raises:
        sqlite3.Error: nothing of this transaction may be committed.
    """
    before = history(connection)
    outcomes = [_apply_one(connection, write, before) for write in writes]
    numbers = [outcome.number for outcome in outcomes if isinstance(outcome, Stamp)]
    if not numbers:
        return outcomes, None
    _compact(connection, History(before.identity, before.compacted, numbers[-1]), keep)
    done = zip(writes, outcomes, strict=True)
    kinds = frozenset(write.key.kind for write, outcome in done if isinstance(outcome, Stamp))
    return outcomes, Committed(numbers[0], numbers[-1], before.identity, kinds)


def _apply_one(connection: sqlite3.Connection, write: Write, before: History) -> Stamp | StoreError:
    place = {"kind": write.key.kind, "namespace": write.key.namespace, "name": write.key.name}
    row = connection.execute(schema.CURRENT, place).fetchone()
    refusal = _refusal(write, row[0] if row else None, before)
    if refusal:
        return refusal
    was: str | None = row[1] if row else None
    entry = connection.execute(schema.LOG, {**place, "was": was, "now": write.indexed})
    number = entry.lastrowid or 0
    new = {"new_revision": number, "new_indexed": write.indexed, "new_body": write.body}
    match write.verb:
        case Verb.CREATE:
            connection.execute(schema.INSERT, {**place, **new})
        case Verb.UPDATE:
            connection.execute(schema.UPDATE, {**place, **new})
        case Verb.DELETE:
            connection.execute(schema.DELETE, place)
    if was != write.indexed:
        _reindex(connection, place, indexed_from(was) or frozenset(), indexed_from(write.indexed) or frozenset())
    return Stamp(number, before.identity)


def _refusal(write: Write, current: int | None, before: History) -> StoreError | None:
    if write.verb is Verb.CREATE:
        return None if current is None else AlreadyExists(write.called)
    if current is None:
        return NotFound(write.called, before.revision)
    if current != number_of(write.revision, before.identity):
        return Conflict(write.called, write.revision)
    return None


def _reindex(connection: sqlite3.Connection, place: dict[str, str], was: Indexed, now: Indexed) -> None:
    for statement, fields in ((schema.UNINDEX, was - now), (schema.INDEX, now - was)):
        for field, value in fields:
            if field != "namespace":  # a column of its own
                connection.execute(statement, {**place, "field": field, "value": value})


def _compact(connection: sqlite3.Connection, after: History, keep: int) -> None:
    to = after.compact_to(keep)
    if to != after.compacted:
        connection.execute(schema.FORGET, {"to": to})
        connection.execute(schema.COMPACTED, {"to": to})
