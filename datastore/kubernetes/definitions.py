"""Whether the custom resource definitions of a cluster know the fields that this program's kinds have.

The API server drops what a definition doesn't know (structural schemas, "field pruning" in
kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions), and says so to nobody: a
program that is newer than the definitions would write, and find nothing of it. Where a definition keeps what it
doesn't know (x-kubernetes-preserve-unknown-fields) nothing is lost.
"""

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import msgspec

from datastore.resources.value import UNKNOWN, Resource, Value

Schema = Mapping[str, Any]
_KEEPS = "x-kubernetes-preserve-unknown-fields"


class _Whole(msgspec.Struct):
    open_api: Schema = msgspec.field(name="openAPIV3Schema", default_factory=dict)


class _Version(msgspec.Struct, rename={"definition": "schema"}):
    name: str = ""
    served: bool = False
    definition: _Whole = msgspec.field(default_factory=_Whole)


class _Spec(msgspec.Struct):
    versions: list[_Version] = []


class Definition(msgspec.Struct):
    """apiextensions.k8s.io/v1 CustomResourceDefinition, as far as it is judged here."""

    spec: _Spec = msgspec.field(default_factory=_Spec)


def path(kind: type[Resource]) -> str:
    """Where a kind's definition is in the API."""
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.KIND.full_name}"


def lacking(kind: type[Resource], definition: Definition) -> list[str]:
    """The fields of a kind that would be lost, such as `status.conditions`; the version itself if it isn't served."""
    found = [one for one in definition.spec.versions if one.name == kind.KIND.version and one.served]
    if not found:
        return [f"version {kind.KIND.version}"]
    whole = found[0].definition.open_api
    named = {name: field for name, field in _fields(kind).items() if name != "metadata"}
    return [missing for name, field in named.items() for missing in _below(name, name, field.type, whole)]


def _below(name: str, where: str, annotation: Any, whole: Schema) -> Iterator[str]:  # noqa: ANN401  # a type
    """What of a field is lost, which is called `name` in the schema `whole`."""
    part = whole.get("properties", {}).get(name)
    if part is None:
        if not whole.get(_KEEPS):
            yield where
        return
    for struct, inner in _structs(annotation, part):
        for below, field in _fields(struct).items():
            yield from _below(below, f"{where}.{below}", field.type, inner)


def _structs(annotation: Any, part: Schema) -> Iterator[tuple[type[Value], Schema]]:  # noqa: ANN401  # a type
    """The Structs that a field's type speaks of, each with its schema."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Value):
        yield annotation, part
    elif origin in (Union, types.UnionType):
        for one in arguments:
            yield from _structs(one, part)
    elif origin is tuple:
        yield from _structs(arguments[0], part.get("items", {}))
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _structs(arguments[1], part.get("additionalProperties", {}))


def _fields(struct: type[Value]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct) if field.encode_name != UNKNOWN}
