"""Events of a watch, folded into what separates two states: at most one change an object. No I/O.

    events    web put (made)   db put   web deleted   api put          where: node=a
    first     web: not there   db: in   .             api: out         as it was at the fold's beginning
    last      .                db: put  web: gone     api: put
    take()    db's state if it is in `where`, else gone; nothing of web, which came and went; api if it is in `where`

What an object was at the beginning needs no previous values, which cost etcd a read for each event and each watcher and
may be compacted: without a `where` (and for a namespace, which never changes), an object whose first event made it was
not there before, and any other was. For other fields, `members` says which objects held the value, read from the
pointers as they were then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from datastore.etcd.etcd_pb2 import Event, KeyValue
from datastore.etcd.keys import Keys
from datastore.etcd.known import indexed_of
from datastore.record import Key, within
from datastore.resources.value import Resource
from datastore.store import Gone, Where

R = TypeVar("R", bound=Resource)

MAX_OBJECTS = 1000
MAX_BYTES = 16 << 20
"""What a fold holds at most before it must be taken, in objects and in bytes; one response comes on top of it."""


@dataclass(slots=True)
class _Pending:
    existed: bool
    """In the watched part at the beginning."""
    last: KeyValue | None
    """None: deleted."""


class Fold(Generic[R]):
    """Changes of one kind since the last `take`, for one watch; `read` makes a resource of what is stored."""

    def __init__(
        self,
        keys: Keys,
        kind: type[R],
        where: Where | None,
        members: Iterable[Key],
        read: Callable[[KeyValue], R],
    ) -> None:
        self._keys = keys
        self._where = where
        by_namespace = where is not None and where.field == "namespace" and kind.KIND.namespaced
        self._namespace = where.value if where and by_namespace else None
        self._by_members = where is not None and not by_namespace
        self._members = set(members)
        self._read = read
        self._pending: dict[Key, _Pending] = {}
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be taken before more is added."""
        return len(self._pending) >= MAX_OBJECTS or self._bytes >= MAX_BYTES

    def add(self, event: Event) -> None:
        """The next event, in the order of revisions, none twice."""
        kv = event.kv
        key = self._keys.key_of_object(kv.key)
        if self._namespace is not None and key.namespace != self._namespace:
            return
        deleted = event.type == Event.DELETE
        pending = self._pending.get(key)
        if pending is None:
            made = not deleted and kv.create_revision == kv.mod_revision
            existed = key in self._members if self._by_members else not made
            pending = self._pending[key] = _Pending(existed, None)
        elif pending.last is not None:
            self._bytes -= len(pending.last.value)
        pending.last = None if deleted else kv
        self._bytes += 0 if deleted else len(kv.value)

    def take(self) -> tuple[R | Gone, ...]:
        """The changes, and begin anew.

        Raises:
            Invalid: one of the objects can't be read.
        """
        changes: list[R | Gone] = []
        for key, pending in self._pending.items():
            resource = self._inside(pending.last)
            if resource is not None:
                changes.append(resource)
            elif pending.existed:
                changes.append(Gone(key.namespace, key.name))
            if self._by_members:
                (self._members.discard if resource is None else self._members.add)(key)
        self._pending.clear()
        self._bytes = 0
        return tuple(changes)

    def _inside(self, kv: KeyValue | None) -> R | None:
        if kv is None:
            return None
        resource = self._read(kv)
        return resource if not self._by_members or within(indexed_of(resource), self._where) else None
