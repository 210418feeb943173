"""What this process knows of objects' indexed fields, so that an update needn't read before it writes.

An update must take away the pointers that its object had. Which ones is known exactly for a revision that this process
has read or written, and the compare-and-swap makes sure that it is still that revision.
"""

from collections import OrderedDict

from datastore.record import Indexed, Key
from datastore.resources.value import Resource

SIZE = 4096
"""Objects: all the blocks and endpoints that one node writes, many times over; a megabyte or two."""


def indexed_of(resource: Resource) -> Indexed:
    """The indexed fields of a resource, as in `Record`."""
    return frozenset((field, value) for field, values in resource.indexed().items() for value in values)


class Known:
    """The fields of the objects that were used last."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._entries: OrderedDict[Key, tuple[int, Indexed]] = OrderedDict()

    def note(self, key: Key, number: int, indexed: Indexed) -> None:
        """At revision `number` the object had these fields."""
        self._entries[key] = (number, indexed)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def at(self, key: Key, number: int) -> Indexed | None:
        """The fields that the object had at `number`; None if that isn't known."""
        entry = self._entries.get(key)
        return entry[1] if entry and entry[0] == number else None

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """The numbers mean something else from now on."""
        self._entries.clear()
