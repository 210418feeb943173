"""What store this is, as revisions carry it.

The store's key holds a random identity, made by whoever comes first, and the id of the cluster it was made in. A
snapshot that is restored as another cluster holds the same keys, but counts revisions on from an older one, so what was
given out since would name two states: whoever finds another cluster's id there puts a new identity in its place.

Every write compares that the store's key is as we know it, every read brings it along, and so does the first answer of
every new connection.
"""

from dataclasses import dataclass

import msgspec

from datastore.errors import Unavailable, Unknown
from datastore.etcd import failures, txns
from datastore.etcd.connection import Connection
from datastore.etcd.etcd_pb2 import TxnResponse
from datastore.etcd.known import Known
from datastore.revisions import Stamp, new_identity, number_of
from datastore.store import Revision

SCHEMA = 1
"""How things lie in etcd; a program refuses a store whose number it doesn't know."""


class _Stored(msgspec.Struct, frozen=True):
    """What the store's key holds, as JSON."""

    schema: int
    identity: str
    cluster: str
    """In hex, as etcdctl shows it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What store it is."""

    identity: str
    """As in `Stamp`; empty if it isn't known."""
    founded: int
    """The mod_revision of the store's key."""
    value: bytes
    """What the store's key holds."""
    cluster: int

    def stamp(self, number: int) -> Revision:
        """A revision as callers see it."""
        return Stamp(number, self.identity).text

    def number(self, text: str) -> int | None:
        """The number of a revision that this store gave; None for any other text."""
        return (number_of(text, self.identity) or None) if self.identity else None


UNKNOWN = Origin("", 0, b"", 0)
"""A write that compares with this one is refused: where the store's key is, its mod_revision isn't 0."""


class Identity:
    """`origin` is the store as the last answer has shown it; `known` is forgotten when it becomes another."""

    def __init__(self, key: bytes, known: Known) -> None:
        self._key = key
        self._known = known
        self.origin = UNKNOWN

    async def establish(self, connection: Connection) -> None:
        """Found the store where there is none, or only another cluster's.

        Raises:
            Unavailable: that can't be done, or what is there is no store that this program knows.
            Forbidden: these credentials may not.
        """
        response = await connection.read(txns.reading(txns.get(self._key)))
        if self.is_in(response):
            return
        kv = txns.only(response.responses[0].response_range)
        value = msgspec.json.encode(_Stored(SCHEMA, new_identity(), f"{response.header.cluster_id:x}"))
        founding = txns.founding(self._key, kv.mod_revision if kv else 0, value)
        try:
            response = await connection.write(founding)
        except (Unknown, failures.NoSpace) as error:
            raise Unavailable(f"the store couldn't be made: {error}") from error
        if response.succeeded:
            self._note(value, response.header.revision, response.header.cluster_id)
        else:
            self.is_in(response)

    def is_in(self, response: TxnResponse) -> bool:
        """Whether a response, whose first range is the store's key, found a store of its own cluster; notes which.

        Raises:
            Unavailable: it is none that this program knows.
        """
        kv = txns.only(response.responses[0].response_range)
        return self._note(kv.value if kv else b"", kv.mod_revision if kv else 0, response.header.cluster_id)

    def _note(self, value: bytes, founded: int, cluster: int) -> bool:
        now = self.origin
        if now.identity and (founded, cluster, value) == (now.founded, now.cluster, now.value):
            return True
        self._known.clear()
        stored = self._decoded(value) if value else None
        if stored is None or stored.cluster != f"{cluster:x}":
            self.origin = UNKNOWN
            return False
        self.origin = Origin(stored.identity, founded, value, cluster)
        return True

    def _decoded(self, value: bytes) -> _Stored:
        at = self._key.decode()
        try:
            stored = msgspec.json.decode(value, type=_Stored)
        except ValueError as error:
            raise Unavailable(f"{at} in etcd isn't a store's: {error}") from error
        if stored.schema != SCHEMA:
            raise Unavailable(f"the store at {at} is of version {stored.schema}; this program knows {SCHEMA}")
        return stored
