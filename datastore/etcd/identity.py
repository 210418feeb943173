"""What store this is, as revisions carry it.

The store's key holds a random identity, made by whoever comes first. The cluster's own id goes into it, too: a snapshot
that is restored as another cluster holds the same keys, but counts revisions on from an older one, so that what was
given out since would name two states. Every write compares that the store's key is the one we know, and every read
brings it along.
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
_MASK = (1 << 48) - 1
"""An identity is 48 bits, in 12 hex digits."""


class _Stored(msgspec.Struct, frozen=True):
    """What the store's key holds, as JSON."""

    schema: int
    identity: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What store it is."""

    identity: str
    """Of this store in this cluster, as in `Stamp`."""
    created: int
    """The revision at which the store's key was made; everything in the store is later."""
    cluster: int
    value: bytes
    """What the store's key holds."""

    def stamp(self, number: int) -> Revision:
        """A revision as callers see it."""
        return Stamp(number, self.identity).text

    def number(self, text: str) -> int | None:
        """The number of a revision that this store gave; None for any other text."""
        number = number_of(text, self.identity)
        return None if number is None or number < self.created else number


NOWHERE = Origin("", 0, 0, b"")
"""Before it is known."""


class Identity:
    """`origin` is the store as the last answer has shown it; `known` is forgotten when it becomes another."""

    def __init__(self, connection: Connection, key: bytes, known: Known) -> None:
        self._connection = connection
        self._key = key
        self._known = known
        self.origin = NOWHERE

    async def establish(self) -> None:
        """Make the store's key where there is none.

        Raises:
            Unavailable: that can't be done, or what is there is no store that this program knows.
            Forbidden: these credentials may not.
        """
        if self.is_in(await self._connection.read(txns.reading(txns.get(self._key)))):
            return
        value = msgspec.json.encode(_Stored(SCHEMA, new_identity()))
        try:
            response = await self._connection.write(txns.made_once(self._key, value))
        except (Unknown, failures.NoSpace) as error:
            raise Unavailable(f"the store couldn't be made: {error}") from error
        if response.succeeded:
            self._note(value, response.header.revision, response.header.cluster_id)
        else:
            self.is_in(response)

    def is_in(self, response: TxnResponse) -> bool:
        """Whether a response, whose first range is the store's key, found a store; notes which.

        Raises:
            Unavailable: it is none that this program knows.
        """
        kv = txns.only(response.responses[0].response_range)
        if kv is None:
            return False
        self._note(kv.value, kv.create_revision, response.header.cluster_id)
        return True

    def move_to(self, cluster: int) -> None:
        """Note that an answer came from another cluster, where the store's key is the same."""
        self._note(self.origin.value, self.origin.created, cluster)

    def _note(self, value: bytes, created: int, cluster: int) -> None:
        now = self.origin
        if created == now.created and cluster == now.cluster and value == now.value:
            return
        try:
            stored = msgspec.json.decode(value, type=_Stored)
            identity = int(stored.identity, 16)
        except ValueError as error:
            raise Unavailable(f"{self._key.decode()} in etcd isn't a store's: {error}") from error
        if stored.schema != SCHEMA:
            raise Unavailable(
                f"the store at {self._key.decode()} is of version {stored.schema}; this program knows {SCHEMA}"
            )
        self._known.clear()
        self.origin = Origin(f"{(identity ^ cluster) & _MASK:012x}", created, cluster, value)
