"""What a driver read in one transaction, and so of one revision."""

from dataclasses import dataclass
from typing import TypeVar

from datastore.errors import NotFound
from datastore.record import Key, resource_of
from datastore.resources.value import Resource, key_of
from datastore.revisions import History, Stamp
from datastore.store import Batch, Gone, Listing

R = TypeVar("R", bound=Resource)

Row = tuple[Key, int, bytes]
"""An object's place, number and body, not yet decoded: that is done when the database is free again."""


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
