"""Where in a document each Struct stands, and so which of its fields have no name here.

A document is what JSON or YAML gives: mappings, lists, scalars. `lift` makes it fit msgspec: null fields go, as in the
Kubernetes API, and the fields that a Struct has no name for move into its `unknown`. `fold` is the way back. The shape
of a class is worked out once, from msgspec's own view of the types.

    NetworkPolicy  Fields ── spec  Fields ── ingress  Items ── Fields ── ports  Items ── Fields ── port  None
                                                                  (None: a scalar or anything without Structs in it)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Union

import msgspec
from msgspec import inspect

from datastore.errors import Invalid
from datastore.resources.value import UNKNOWN, UnknownFields, Value


@dataclass(frozen=True, slots=True)
class Fields:
    """A Struct: its fields by encoded name."""

    struct: type[msgspec.Struct]
    fields: Mapping[str, "Shape"]


@dataclass(frozen=True, slots=True)
class Items:
    """A list whose items have Structs in them."""

    item: "Shape"


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping by keys that aren't field names, whose values have Structs in them."""

    value: "Shape"


Shape = Union[Fields, Items, Entries, None]  # noqa: UP007  # the classes name it before it exists
"""None: nothing below can have unknown fields of its own."""


@cache
def shape_of(struct: type[Value]) -> Fields:
    """The shape of a Struct class; worked out at the first call."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{struct} is no Struct")
    return _fields(info)


def _fields(info: inspect.StructType) -> Fields:
    fields = {field.encode_name: _shape(field.type) for field in info.fields if field.encode_name != UNKNOWN}
    return Fields(info.cls, fields)


def _shape(info: inspect.Type) -> Shape:
    match info:
        case inspect.StructType():
            return _fields(info)
        case inspect.VarTupleType() | inspect.ListType():
            item = _shape(info.item_type)
            return Items(item) if item else None
        case inspect.DictType():
            value = _shape(info.value_type)
            return Entries(value) if value else None
        case inspect.UnionType():
            return next((shape for shape in map(_shape, info.types) if shape), None)
        case _:
            return None


def lift(document: object, shape: Shape) -> object:
    """The document as msgspec takes it: no nulls, unknown fields in `unknown` of the level where they stood.

    Raises:
        Invalid: a null in a list, a field called as `UNKNOWN`, or one whose name is no text; with its path.
    """
    if isinstance(document, Mapping):
        return _lift_fields(document, shape) if isinstance(shape, Fields) else _lift_entries(document, shape)
    if isinstance(document, list | tuple):
        return _lift_items(document, shape.item if isinstance(shape, Items) else None)
    return document


def _lift_fields(document: Mapping[object, object], shape: Fields) -> dict[str, object]:
    known: dict[str, object] = {}
    unknown: dict[str, object] = {}
    for name, value in document.items():
        if value is None:
            continue
        if not isinstance(name, str) or name == UNKNOWN:
            raise Invalid("", f"{name!r} can't be the name of a field")
        home = known if name in shape.fields else unknown
        home[name] = _lift_below(value, shape.fields.get(name), name)
    if unknown:
        known[UNKNOWN] = UnknownFields(unknown)
    return known


def _lift_entries(document: Mapping[object, object], shape: Shape) -> dict[object, object]:
    below = shape.value if isinstance(shape, Entries) else None
    entries: dict[object, object] = {}
    for key, value in document.items():
        if value is None:
            continue
        if key == UNKNOWN:
            raise Invalid("", f"{key!r} can't be the name of a field")
        entries[key] = _lift_below(value, below, f"[{key}]" if below else str(key))
    return entries


def _lift_items(document: list[object] | tuple[object, ...], below: Shape) -> list[object]:
    items: list[object] = []
    for index, item in enumerate(document):
        if item is None:
            raise Invalid(f"[{index}]", "is null")
        items.append(_lift_below(item, below, f"[{index}]"))
    return items


def _lift_below(value: object, shape: Shape, step: str) -> object:
    if not isinstance(value, Mapping | list | tuple):
        return value
    try:
        return lift(value, shape)
    except Invalid as error:
        raise error.below(step) from None


def fold(document: object) -> object:
    """What `msgspec.to_builtins` gave, with the fields under `UNKNOWN` back at the level they came from."""
    if isinstance(document, dict):
        folded = {name: fold(value) for name, value in document.items() if name != UNKNOWN}
        return {**folded, **document.get(UNKNOWN, {})}
    if isinstance(document, list | tuple):
        return [fold(item) for item in document]
    return document


def unknown_paths(value: object, shape: Shape) -> Iterator[str]:
    """The path of each unknown field below `value`, as a person writes it, from `value` on."""
    match shape:
        case Fields() if isinstance(value, Value):
            yield from value.unknown
            for field in msgspec.structs.fields(value):
                below = shape.fields.get(field.encode_name)
                if below:
                    yield from _joined(field.encode_name, unknown_paths(getattr(value, field.name), below))
        case Items() if isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from _joined(f"[{index}]", unknown_paths(item, shape.item))
        case Entries() if isinstance(value, Mapping):
            for key, item in value.items():
                yield from _joined(f"[{key}]", unknown_paths(item, shape.value))
        case _:
            return


def _joined(step: str, paths: Iterator[str]) -> Iterator[str]:
    return (step + path if path.startswith("[") else f"{step}.{path}" for path in paths)
