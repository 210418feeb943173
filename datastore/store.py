"""The Store contract: what every driver gives, whatever database is behind it.

Store = Reader + Writer, so that a fan-out hub can later stand in as the Reader. The rules that callers lean on:

- `get` and `list` are linearizable: they see every write that was acknowledged before they were called.
- `update` and `delete` compare and swap on the object's revision. A revision never names two states, not even after
  delete, create or compaction. Revisions are opaque and of one kind: they are compared for equality only.
- `watch` gives the last state of each object after a revision. States between may be merged; what leaves `where` is
  reported gone; order is kept for one object, and between objects of one batch there is none.
- Drivers never retry a write, and cancelling a caller never cancels a write that was sent.

One suite, tests/datastore/test_contract*.py, holds every driver to this.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Generic, NewType, Protocol, TypeVar

from datastore.resources.value import Resource

Revision = NewType("Revision", str)
"""Opaque; equal means the same state. It carries the store's identity, so one of a restored store is recognised."""

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Where:
    """Objects whose indexed `field` holds `value`.

    Fields are named by each resource (`Resource.indexed`), written atomically with the object; `namespace` is one for
    every namespaced kind.
    """

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Listing(Generic[R]):
    """All objects of a kind at one `revision`, from which a watch goes on without a gap."""

    items: tuple[R, ...]
    revision: Revision


@dataclass(frozen=True, slots=True)
class Gone:
    """The object is no longer there, or no longer in the watched part."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Batch(Generic[R]):
    """What happened up to `revision`, at most one state an object; no changes at all make a bookmark."""

    changes: tuple[R | Gone, ...]
    revision: Revision


class Reader(Protocol):
    """The reading half."""

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """The object as it is now.

        Raises:
            NotFound: it isn't there; carries a revision.
            Invalid: what is stored can't be read as `kind`; says which object.
            Unavailable: the store can't be read.
        """
        ...

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """Every object of `kind` (in `where`), all of one revision.

        Raises:
            Invalid: one of them can't be read as `kind`; says which.
            Unavailable: the store can't be read.
        """
        ...

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """Batches of what changed after `start`, without end; a quiet store yields a bookmark now and then.

        Close it with `aclose()` (`contextlib.aclosing`).

        Raises:
            Compacted: history no longer reaches back to `start`: list, then watch from there.
            Invalid: a changed object can't be read as `kind`; says which.
            Unavailable: the store can't be read; watching again from the last batch's revision loses nothing.
        """
        ...


class Writer(Protocol):
    """The writing half: every write is conditional."""

    async def create(self, resource: R) -> R:
        """Store it and give it back with its revision.

        Raises:
            AlreadyExists: one of this name is there.
            Invalid: a field is wrong.
            Unavailable: certainly not stored.
            Unknown: perhaps stored, now or later; trying again under the same name settles it.
        """
        ...

    async def update(self, resource: R) -> R:
        """Replace the object that is at `resource.revision`, and give the new one back with its revision.

        Raises:
            Conflict: the object is at another revision.
            NotFound: it is gone.
            Invalid: a field is wrong.
            Unavailable: certainly not stored.
            Unknown: perhaps stored, now or later.
        """
        ...

    async def delete(self, resource: Resource) -> None:
        """Remove the object that is at `resource.revision`.

        Raises:
            Conflict: the object is at another revision.
            NotFound: it is gone already.
            Unavailable: certainly not removed.
            Unknown: perhaps removed, now or later.
        """
        ...


class Store(Reader, Writer, Protocol):
    """A datastore, opened."""

    async def close(self) -> None:
        """Let go of connections and threads; watches end."""
        ...
