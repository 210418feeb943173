"""Reading Kubernetes' own kinds: the fields that the Structs name, and nothing else of a Pod's four kilobytes.

Resources refuse unknown fields, so that the codec notices and keeps them. That costs 0.1 ms for a Pod, of which 10,000
are read at once, and nobody writes them back whole. So each Struct has a twin here that skips what it doesn't name;
msgspec decodes the twin, and builds the Struct from the twin's attributes (5 us for both).
"""

import types
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec

from datastore.resources.value import Value


@cache
def twin(struct: type[Value]) -> type[msgspec.Struct]:
    """A Struct with the same attributes that ignores unknown fields."""
    fields = msgspec.structs.fields(struct)
    return msgspec.defstruct(
        f"Lenient{struct.__name__}",
        [(field.name, twin_of_type(field.type), _default(field)) for field in fields],
        rename={field.name: field.encode_name for field in fields},
        kw_only=True,
        frozen=True,
        gc=False,
    )


def twin_of_type(annotation: Any) -> Any:  # noqa: ANN401  # annotations have no type of their own
    """The annotation with the twin of every Struct in it."""
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return twin(annotation)
    origin = get_origin(annotation)
    if origin is None:
        return annotation
    arguments = tuple(twin_of_type(argument) for argument in get_args(annotation))
    return Union[arguments] if origin is types.UnionType else origin[arguments]  # noqa: UP007  # made at run time


def _default(field: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401  # whatever the field's type is
    return twin(type(field.default))() if isinstance(field.default, Value) else default_of(field)


def default_of(field: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401  # whatever the field's type is
    """What `defstruct` takes as the default of a field like this one."""
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return field.default
