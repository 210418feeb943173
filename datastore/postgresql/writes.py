"""A group of writes as parameters of the function that writes, and its answer as their outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound, StoreError, Unavailable
from datastore.postgresql.connection import Row, Session
from datastore.record import Indexed, Key
from datastore.revisions import History, Stamp


@dataclass(frozen=True, slots=True)
class Write:
    """One write, encoded; a delete has neither fields nor body."""

    verb: str
    """create, update or delete"""
    key: Key
    called: str
    """How messages name the object."""
    revision: str
    """The one it must be at."""
    fields: str | None = None
    body: bytes | None = None


Outcome = Stamp | StoreError


def entry_of(field: str, value: str) -> str:
    """An indexed field and its value, as the tables hold them."""
    return f"{field}={value}"


def fields_text(indexed: Indexed) -> str:
    """Indexed fields as the function takes them: a line each, always in the same order.

    Raises:
        Invalid: a value has several lines.
    """
    entries = sorted(entry_of(field, value) for field, value in indexed)
    if any("\n" in entry for entry in entries):
        raise Invalid("", "has an indexed field of several lines")
    return "\n".join(entries)


def identity_on(timeline: str, identity: str) -> str:
    """The identity that revisions carry: a fail-over may lose commits, and then counts their numbers again."""
    return f"{identity}.{timeline}"


def parameters(writes: Sequence[Write], timeline: str) -> dict[str, object]:
    """What the function takes."""
    return {
        "verbs": [write.verb for write in writes],
        "kinds": [write.key.kind for write in writes],
        "namespaces": [write.key.namespace for write in writes],
        "names": [write.key.name for write in writes],
        "revisions": [None if write.verb == "create" else write.revision for write in writes],
        "fields": [write.fields for write in writes],
        "bodies": [write.body for write in writes],
        "timeline": timeline,
    }


def outcomes(session: Session, writes: Sequence[Write], rows: Sequence[Row]) -> tuple[list[Outcome], History]:
    """What became of each of `writes`, and how far the log reaches now."""
    found: list[Outcome] = []
    last = History("", 0, 0)
    for write, (outcome, number, identity, compacted) in zip(writes, rows, strict=True):
        last = History(str(identity), cast("int", compacted), cast("int", number))
        match outcome:
            case "done":
                found.append(Stamp(last.newest, last.identity))
            case "taken":
                found.append(AlreadyExists(write.called))
            case "absent":
                found.append(NotFound(write.called, last.revision))
            case "moved":
                found.append(Conflict(write.called, write.revision))
            case other:
                found.append(Unavailable(f"{session.where}: the function that writes answered {other!r}"))
    return found, last
