"""Documents to resources and back: what people write, and what a store keeps.

    people:  YAML, JSON -> document (dict) -> decode -> resource -> document() -> YAML, JSON
    store:   resource -> encode -> bytes -> decode_as -> resource with its revision

The bytes are the document as JSON, apiVersion and kind first, without resourceVersion (the driver knows the revision)
and generation.
As in the Kubernetes API a null field is an absent one. Fields without a name here are kept, see `resources.value`.

Most values have no unknown fields, and for them both directions are one call of msgspec: Structs refuse unknown fields,
and only when that (or anything else) makes the call fail is the document walked by its shape and tried again. Encoding
notices a filled `unknown` by the hook that msgspec calls for types it doesn't know.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from datastore import shape
from datastore.blame import blame
from datastore.errors import Invalid
from datastore.resources import kinds
from datastore.resources.value import Resource, UnknownFields

R = TypeVar("R", bound=Resource)

MAX_BYTES = 1 << 20
"""Size of an encoded object; etcd takes requests of 1.5 MiB (--max-request-bytes), and every store must hold what any
other one holds."""

_TYPE_FIELDS = ("apiVersion", "kind")


def decode(document: object) -> Resource:
    """The resource that `document` describes by its apiVersion and kind; types are judged, `check()` isn't called.

    Raises:
        Invalid: no such kind, or a field is wrong; with the field's path.
    """
    if not isinstance(document, Mapping):
        raise Invalid("", "is no object with apiVersion, kind and metadata")
    kind = kinds.of(document.get("apiVersion"), document.get("kind"))
    return _convert({name: value for name, value in document.items() if name not in _TYPE_FIELDS}, kind)


def decode_as(kind: type[R], body: bytes, revision: str) -> R:
    """The stored object of `kind`, at `revision`.

    Raises:
        Invalid: these bytes are no such object.
    """
    prefix = _prefix(kind)
    if body.startswith(prefix):
        try:
            resource: R = _decoder(kind).decode(b"{" + body[len(prefix) :])
        except (ValueError, RecursionError):
            resource = _decode_slowly(kind, body)
    else:
        resource = _decode_slowly(kind, body)
    # Nobody else has seen this value yet, so it may still be completed.
    msgspec.structs.force_setattr(resource.metadata, "resource_version", revision)
    return resource


def encode(resource: Resource) -> bytes:
    """The bytes to store.

    Raises:
        Invalid: it can't be written as JSON, or is larger than `MAX_BYTES`.
    """
    return encode_stamped(stamped(resource, ""))


def encode_stamped(resource: Resource) -> bytes:
    """As `encode`, with the resourceVersion that it carries: for an API that takes it there.

    Raises:
        Invalid: it can't be written as JSON, or is larger than `MAX_BYTES`.
    """
    try:
        try:
            fields = _ENCODER.encode(resource)
        except _HasUnknown:
            fields = msgspec.json.encode(_folded(resource))
    except (UnicodeEncodeError, OverflowError, RecursionError, TypeError) as error:
        raise Invalid("", f"can't be written as JSON: {error}") from error
    body = _prefix(type(resource)) + fields[1:]
    if len(body) > MAX_BYTES:
        raise Invalid("", f"is {len(body)} bytes long; a store keeps at most {MAX_BYTES}")
    return body


def document(resource: Resource) -> dict[str, Any]:
    """The resource as people see it, with its resourceVersion; defaults are left out."""
    kind = resource.KIND
    return {"apiVersion": kind.api_version, "kind": kind.name, **_folded(resource)}


def unknown_paths(resource: Resource) -> tuple[str, ...]:
    """The paths of the fields that were kept without a name, such as `spec.ingress[0].log`."""
    return tuple(shape.unknown_paths(resource, shape.shape_of(type(resource))))


def stamped(resource: R, revision: str) -> R:
    """The same object at another revision, of no generation: who writes it doesn't know that."""
    metadata = msgspec.structs.replace(resource.metadata, resource_version=revision, generation=0)
    return msgspec.structs.replace(resource, metadata=metadata)


class _HasUnknown(Exception):
    """Some value being encoded has unknown fields."""


def _notice(value: object) -> NoReturn:
    if isinstance(value, UnknownFields):
        raise _HasUnknown
    raise TypeError(f"{type(value).__name__} is no JSON")


def _only_lifted(_: type, value: object) -> object:
    # A document can't bring its own UnknownFields, so whoever writes the key "-unknown-" ends here.
    if isinstance(value, UnknownFields):
        return value
    raise ValueError("can't be the name of a field")


_ENCODER = msgspec.json.Encoder(enc_hook=_notice)


@cache
def _decoder(kind: type[R]) -> msgspec.json.Decoder[R]:
    return msgspec.json.Decoder(kind, dec_hook=_only_lifted)


@cache
def _prefix(kind: type[Resource]) -> bytes:
    named = {"apiVersion": kind.KIND.api_version, "kind": kind.KIND.name}
    return msgspec.json.encode(named)[:-1] + b","


def _decode_slowly(kind: type[R], body: bytes) -> R:
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise Invalid("", f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Invalid("", "is no object")
    named = found.pop("apiVersion", None), found.pop("kind", None)
    if named != (kind.KIND.api_version, kind.KIND.name):
        raise Invalid("kind", f"{named} stands where {kind.KIND.api_version} {kind.KIND.name} was asked for")
    return _convert(found, kind)


def _convert(fields: dict[Any, Any], kind: type[R]) -> R:
    try:
        return msgspec.convert(fields, kind, dec_hook=_only_lifted)
    except (msgspec.ValidationError, RecursionError):
        return _convert_slowly(fields, kind)


def _convert_slowly(fields: dict[Any, Any], kind: type[R]) -> R:
    form = shape.shape_of(kind)
    try:
        lifted = shape.lift(fields, form)
        return msgspec.convert(lifted, kind, dec_hook=_only_lifted)
    except msgspec.ValidationError as error:
        raise blame(error, lifted, form) from error
    except RecursionError:
        raise Invalid("", "is nested too deeply") from None


def _folded(resource: Resource) -> dict[str, Any]:
    return cast("dict[str, Any]", shape.fold(msgspec.to_builtins(resource, enc_hook=dict)))
