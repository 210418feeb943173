"""What a driver stores of a resource, whatever database is behind it."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from datastore import codec
from datastore.errors import Invalid
from datastore.resources.value import Resource, key_of
from datastore.store import Where

R = TypeVar("R", bound=Resource)

Indexed = frozenset[tuple[str, str]]
"""Field and value, for every value the object holds in every field of `Resource.indexed`."""


class Key(NamedTuple):
    """An object's place among all; `kind` is `Kind.full_name`, which core/v1 Node doesn't share with ours."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """An object to be stored."""

    key: Key
    body: bytes
    indexed: Indexed


def record_of(resource: Resource) -> Record:
    """The record of a resource that passes its own check.

    Raises:
        Invalid: it doesn't, or can't be encoded.
    """
    resource.check()
    indexed = frozenset((field, value) for field, values in resource.indexed().items() for value in values)
    return Record(key_for(resource), codec.encode(resource), indexed)


def key_for(resource: Resource) -> Key:
    """The place of a resource."""
    return Key(resource.KIND.full_name, resource.namespace, resource.name)


def resource_of(kind: type[R], key: Key, body: bytes, revision: str) -> R:
    """The resource that was stored.

    Raises:
        Invalid: the body is none of `kind`; says which object it is.
    """
    try:
        return codec.decode_as(kind, body, revision)
    except Invalid as error:
        raise Invalid(error.path, f"{error.reason} (stored as {key_of(kind, key.name, key.namespace)})") from error


def within(indexed: Indexed | None, where: Where | None) -> bool:
    """Whether an object with these fields is in `where`; None is no object at all."""
    if indexed is None:
        return False
    return where is None or (where.field, where.value) in indexed
