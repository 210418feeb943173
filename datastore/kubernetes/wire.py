"""Objects as the API has them, to resources and back.

| | what callers see |
|---|---|
| metadata | labels without the index, annotations without `tortie.dev/bump`, finalizers and owners as unknown fields |
| revision | `stamp.Stamp` of resourceVersion and uid |
| the rest of our kinds, NetworkPolicy, Lease | everything: fields that we have no name for are kept |
| the rest of Pod, Node, Namespace, ServiceAccount | the fields we use (`lenient`); an update leaves the others alone |

What the server alone writes (managedFields, times) is hidden, so that an object equals what it was made of. Where they
mean something to callers a uid is told, of Kubernetes' own objects (one of its name may come again), and the
generation, of kinds of ours that have a status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

import msgspec

from datastore import codec
from datastore.errors import Invalid
from datastore.kubernetes.lenient import default_of, twin_of_type
from datastore.kubernetes.paths import OURS, index_labels, is_index_label, is_ours
from datastore.kubernetes.stamp import Stamp
from datastore.resources import names
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod, ServiceAccount
from datastore.resources.value import NO_UNKNOWN, UNKNOWN, Metadata, Resource, UnknownFields, key_of

R = TypeVar("R", bound=Resource)

BUMP = f"{OURS}/bump"
"""An annotation whose random value makes a write that changes nothing move the resourceVersion."""
_PARTLY_READ = (Pod, KubernetesNode, Namespace, ServiceAccount)
_Document = dict[str, Any]


class ObjectMeta(msgspec.Struct, rename="camel", gc=False):
    """What is read of metadata; the server's own bookkeeping is skipped."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    finalizers: msgspec.Raw = msgspec.Raw()
    owner_references: msgspec.Raw = msgspec.Raw()


class Head(msgspec.Struct):
    """An object of which only its name and revision matter."""

    metadata: ObjectMeta


class ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "token": "continue"}):
    """Of one page."""

    resource_version: str = ""
    token: str = ""


class _RawPage(msgspec.Struct):
    metadata: ListMeta
    items: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page of a list, all of one resourceVersion."""

    items: list[R]
    number: int
    token: str
    """Asks for the next page; empty on the last one."""


def is_partly_read(kind: type[Resource]) -> bool:
    """Whether reading leaves fields out, so that writing must keep what is there."""
    return kind in _PARTLY_READ


class Reading(Generic[R]):
    """Decodes one kind, of one cluster."""

    def __init__(self, kind: type[R], identity: str) -> None:
        self._kind = kind
        self.identity = identity
        self._form = _form(kind)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self._form.wire)
        self._page: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self._form.page)

    def one(self, body: bytes | msgspec.Raw) -> R:
        """An object.

        Raises:
            Invalid: it is none of this kind; says which object.
        """
        try:
            return self._resource(self._one.decode(body))
        except (msgspec.DecodeError, RecursionError):
            return self._slowly(body)

    def page(self, body: bytes) -> Page[R]:
        """A page of a list.

        Raises:
            Invalid: one of the objects is none of this kind; says which.
        """
        try:
            page = self._page.decode(body)
            items = [self._resource(item) for item in page.items]
        except (msgspec.DecodeError, RecursionError):
            page = _decoded(body, _RawPage)
            items = [self.one(item) for item in page.items]
        return Page(items, number_of(page.metadata.resource_version), page.metadata.token)

    def _resource(self, wire: Any) -> R:  # noqa: ANN401  # a Struct made at run time
        rest = {name: getattr(wire, name) for name in self._form.rest}
        if self._form.partly:
            types = self._form.rest
            rest = {name: msgspec.convert(rest[name], types[name], from_attributes=True) for name in rest}
        return self._kind(metadata=self._metadata(wire.metadata), **rest)

    def _metadata(self, found: ObjectMeta) -> Metadata:
        stamp = Stamp(number_of(found.resource_version), self.identity, found.uid)
        labels, annotations = found.labels, found.annotations
        if self._form.indexed and labels:
            labels = {key: value for key, value in labels.items() if not is_index_label(key)}
        if BUMP in annotations:
            annotations = {key: value for key, value in annotations.items() if key != BUMP}
        return Metadata(
            name=found.name,
            namespace=found.namespace,
            labels=labels,
            annotations=annotations,
            uid=found.uid if self._form.partly else "",
            resource_version=stamp.text,
            generation=found.generation if self._form.judged else 0,
            unknown=NO_UNKNOWN if self._form.partly else _unknown(found),
        )

    def _slowly(self, body: bytes | msgspec.Raw) -> R:
        found = _decoded(body, dict[str, Any])
        head = _decoded(body, Head).metadata
        try:
            found |= {"apiVersion": self._kind.KIND.api_version, "kind": self._kind.KIND.name, "metadata": {}}
            resource = cast("R", codec.decode(found))
        except Invalid as error:
            key = key_of(self._kind, head.name, head.namespace)
            raise Invalid(error.path, f"{error.reason} (stored as {key})") from error
        return msgspec.structs.replace(resource, metadata=self._metadata(head))


def head_of(body: bytes | msgspec.Raw) -> ObjectMeta:
    """The metadata of any object."""
    return _decoded(body, Head).metadata


def document_of(body: bytes) -> _Document:
    """The object as it is, everything in it."""
    return _decoded(body, dict[str, Any])


def number_of(resource_version: str) -> int:
    """The number that a resourceVersion is (KEP-5504).

    Raises:
        Invalid: it is none.
    """
    if not (resource_version.isascii() and resource_version.isdigit()):
        raise Invalid("metadata.resourceVersion", f"{resource_version!r} is no number")
    return int(resource_version)


def check_writable(resource: Resource) -> None:
    """Judge what is to be written.

    Raises:
        Invalid: names the field.
    """
    resource.check()
    for key in resource.metadata.labels:
        if is_index_label(key):
            raise names.invalid(f"metadata.labels[{key}]", key, "is the datastore's own")
    if BUMP in resource.metadata.annotations:
        raise names.invalid(f"metadata.annotations[{BUMP}]", BUMP, "is the datastore's own")


def written(resource: Resource, stamp: Stamp | None, bump: str = "") -> bytes:
    """The body that creates an object, or replaces the one at `stamp`.

    Raises:
        Invalid: it can't be written.
    """
    metadata = msgspec.structs.replace(
        resource.metadata,
        labels={**resource.metadata.labels, **(index_labels(resource) if is_ours(type(resource)) else {})},
        annotations={**resource.metadata.annotations, **({BUMP: bump} if bump else {})},
        uid=stamp.uid if stamp else "",
        resource_version=str(stamp.number) if stamp else "",
        generation=0,
    )
    return codec.encode_stamped(msgspec.structs.replace(resource, metadata=metadata))


def merged(resource: R, found: _Document, reading: Reading[R], bump: str = "") -> bytes:
    """The body that makes `resource` of an object of which a part is read: what isn't read stays as it was found.

    Raises:
        Invalid: it can't be written.
    """
    was = codec.document(reading.one(msgspec.json.encode(found)))
    now = codec.document(resource)
    for document in (was, now):
        document["metadata"].pop("resourceVersion", None)
        document["metadata"].pop("uid", None)
    result = _merge(found, was, now)
    if bump:
        result["metadata"].setdefault("annotations", {})[BUMP] = bump
    return msgspec.json.encode(result)


def _merge(found: Any, was: Any, now: Any) -> Any:  # noqa: ANN401  # decoded JSON
    if was == now:
        return found
    if not (isinstance(found, Mapping) and isinstance(was, Mapping) and isinstance(now, Mapping)):
        return now
    kept = {key: value for key, value in found.items() if key in now or key not in was}
    changed = {key: _merge(found[key], was[key], now[key]) for key in now if key in found and key in was}
    return {**kept, **{key: value for key, value in now.items() if key not in changed}, **changed}


@dataclass(frozen=True, slots=True)
class _Form:
    wire: type[msgspec.Struct]
    page: type[msgspec.Struct]
    rest: Mapping[str, Any]
    """The fields beside metadata, with their types."""
    partly: bool
    indexed: bool
    judged: bool
    """Whether its status says of which spec it is."""


@cache
def _form(kind: type[Resource]) -> _Form:
    partly = is_partly_read(kind)
    fields = [field for field in msgspec.structs.fields(kind) if field.encode_name not in (UNKNOWN, "metadata")]
    wire = msgspec.defstruct(
        f"{kind.__name__}Wire",
        [
            ("metadata", ObjectMeta),
            *((field.name, twin_of_type(field.type) if partly else field.type, default_of(field)) for field in fields),
            *(("api_version", str, ""), ("kind", str, "")),
        ],
        rename={"api_version": "apiVersion", **{field.name: field.encode_name for field in fields}},
        forbid_unknown_fields=not partly,
        kw_only=True,
        gc=False,
    )
    page = msgspec.defstruct("Page", [("metadata", ListMeta), ("items", list[wire])])  # type: ignore[valid-type]
    rest = {field.name: field.type for field in fields}
    return _Form(wire, page, rest, partly, is_ours(kind), is_ours(kind) and "status" in rest)


def _unknown(found: ObjectMeta) -> UnknownFields:
    if not found.finalizers and not found.owner_references:
        return NO_UNKNOWN
    kept = {"finalizers": found.finalizers, "ownerReferences": found.owner_references}
    return UnknownFields({name: msgspec.json.decode(raw) for name, raw in kept.items() if raw})


T = TypeVar("T")


def _decoded(body: bytes | msgspec.Raw, form: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("", f"the API server's answer can't be read: {error}") from error
