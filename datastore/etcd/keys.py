"""Where things lie in etcd, below a store's prefix; DESIGN.md has the table.

    /tortie/store                                             what store this is
    /tortie/object/ipblocks.tortie.dev//10-65-0-0-26          an object: kind, namespace (empty), name
    /tortie/field/ipblocks.tortie.dev/node/a//10-65-0-0-26    a pointer to it: the index of list(where)
    /tortie/newest/ipblocks.tortie.dev                        written with every object of the kind

Values are percent-encoded (a cell is 10.65.0.0/20), so that every part ends at the next slash, two keys are never one,
and `etcdctl get --prefix` can be read.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

from datastore.errors import Invalid
from datastore.record import Key


@dataclass(frozen=True, slots=True)
class Range:
    """Keys from `start` up to, not including, `end`."""

    start: bytes
    end: bytes


class Keys:
    """The keys of the store below `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.store = f"{prefix}/store".encode()
        self._object = f"{prefix}/object"
        self._field = f"{prefix}/field"
        self._newest = f"{prefix}/newest"
        self._object_bytes = len(self._object.encode()) + 1
        self._field_bytes = len(self._field.encode()) + 1

    def newest(self, kind: str) -> bytes:
        """Its mod_revision is that of the kind's newest change."""
        return f"{self._newest}/{kind}".encode()

    def object(self, key: Key) -> bytes:
        """Where an object lies.

        Raises:
            Invalid: its name is no Unicode.
        """
        return f"{self._object}/{key.kind}/{_quoted(key.namespace)}/{_quoted(key.name)}".encode()

    def pointer(self, key: Key, field: str, value: str) -> bytes:
        """What says that the object at `key` holds `value` in `field`.

        Raises:
            Invalid: one of them is no Unicode.
        """
        at = f"{self._field}/{key.kind}/{_quoted(field)}/{_quoted(value)}"
        return f"{at}/{_quoted(key.namespace)}/{_quoted(key.name)}".encode()

    def objects(self, kind: str, namespace: str | None = None) -> Range:
        """Every object of a kind, or those of one namespace.

        Raises:
            Invalid: the namespace is no Unicode.
        """
        return _below(f"{self._object}/{kind}" if namespace is None else f"{self._object}/{kind}/{_quoted(namespace)}")

    def pointers(self, kind: str, field: str, value: str) -> Range:
        """The pointers to every object of a kind that holds `value` in `field`.

        Raises:
            Invalid: one of them is no Unicode.
        """
        return _below(f"{self._field}/{kind}/{_quoted(field)}/{_quoted(value)}")

    def key_of_object(self, raw: bytes) -> Key:
        """The object that lies at `raw`."""
        kind, namespace, name = raw[self._object_bytes :].decode().split("/")
        return Key(kind, unquote(namespace), unquote(name))

    def key_of_pointer(self, raw: bytes) -> Key:
        """The object that the pointer at `raw` leads to."""
        kind, _, _, namespace, name = raw[self._field_bytes :].decode().split("/")
        return Key(kind, unquote(namespace), unquote(name))


def _below(path: str) -> Range:
    # "0" follows "/": the end of everything that begins with path and a slash.
    return Range(f"{path}/".encode(), f"{path}0".encode())


def _quoted(text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise Invalid("", f"{text!r} is no Unicode") from error
