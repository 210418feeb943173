"""What every resource is made of: frozen values that keep the fields they don't know.

An older program that rewrites an object must not lose what a newer one put there, so each value carries the unknown
fields of its own level. They live and go with their value: replacing an allocation drops its unknown fields, keeping
it keeps them. The shape is the Kubernetes API's (apiVersion, kind, metadata, spec), camelCase outside, snake_case here.

Structs refuse unknown fields when msgspec decodes them; `datastore.codec` is the way in and out, and puts them aside.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import msgspec

from datastore.errors import Invalid
from datastore.resources import names

UNKNOWN = "-unknown-"
"""Encoded name of `Value.unknown`: no Kubernetes field can be called this, and the codec never writes it."""


class UnknownFields(Mapping[str, object]):
    """Fields without a name here, as decoded from JSON.

    A type of its own, so that msgspec calls the codec's hooks for it, and immutable, so that all values without unknown
    fields share `NO_UNKNOWN` (an empty dict in each of 5,000 blocks' allocations would be 20 MB).
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> object:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return self is other or self._fields == (other._fields if isinstance(other, UnknownFields) else other)

    def __hash__(self) -> int:
        return hash(frozenset(self._fields))

    def __repr__(self) -> str:
        return f"UnknownFields({self._fields!r})"


NO_UNKNOWN = UnknownFields({})
"""What nearly every value has; being the default itself, msgspec leaves it out when encoding."""


class Value(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    repr_omit_defaults=True,
    forbid_unknown_fields=True,
    rename="camel",
    kw_only=True,
    gc=False,
):
    """A frozen value; `unknown` holds the fields that this program has no name for, as decoded.

    Decoded JSON has no cycles, so the garbage collector needn't look at values: half the time that 10,000 Pods took.
    """

    unknown: UnknownFields = msgspec.field(default=NO_UNKNOWN, name=UNKNOWN)


class Metadata(Value, frozen=True, kw_only=True):
    """Kubernetes' ObjectMeta, as far as we use it.

    `resource_version` is the revision, `generation` counts changes of the spec; neither is stored inside.
    """

    name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    """Told by Kubernetes alone, of kinds whose status says which spec was judged; 0 elsewhere."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind is called, where."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """`apiVersion` as in YAML: `v1` for the core group, else group/version."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """The name that is unique among all kinds, such as networkpolicies.networking.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Resource(Value, frozen=True, kw_only=True):
    """An object of the store."""

    KIND: ClassVar[Kind]

    metadata: Metadata

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """metadata.namespace, empty for kinds without one."""
        return self.metadata.namespace

    @property
    def revision(self) -> str:
        """The state of the store that this value was read from; empty for one that was never stored."""
        return self.metadata.resource_version

    @property
    def key(self) -> str:
        """How messages name this object, such as `NetworkPolicy shop/db`."""
        return key_of(type(self), self.name, self.namespace)

    def indexed(self) -> Mapping[str, frozenset[str]]:
        """The indexed fields and the values this object holds in them, for `Where`."""
        return {"namespace": frozenset({self.namespace})} if self.KIND.namespaced else {}

    def check(self) -> None:
        """Look at every field that types alone can't judge; subclasses add theirs.

        Raises:
            Invalid: names the first field that is wrong.
        """
        names.check_subdomain(self.name, "metadata.name")
        if self.KIND.namespaced:
            names.check_label_name(self.namespace, "metadata.namespace")
        elif self.namespace:
            raise names.invalid("metadata.namespace", self.namespace, f"{self.KIND.name} has no namespace")
        names.check_labels(self.metadata.labels, "metadata.labels")
        for key in self.metadata.annotations:
            names.check_label_key(key.lower(), "metadata.annotations")


def key_of(kind: type[Resource], name: str, namespace: str = "") -> str:
    """How messages name an object, such as `NetworkPolicy shop/db` or `IPPool default-ipv4`."""
    return f"{kind.KIND.name} {namespace}/{name}" if namespace else f"{kind.KIND.name} {name}"


class Checked(Protocol):
    """A part of a resource that can judge itself."""

    def check(self) -> None:
        """Look at every field that types alone can't judge.

        Raises:
            Invalid: names the first field that is wrong, from this part on.
        """
        ...


def check_below(part: Checked, path: str) -> None:
    """Judge the part of a resource that stands at `path`.

    Raises:
        Invalid: names the field from the resource on.
    """
    try:
        part.check()
    except Invalid as error:
        raise error.below(path) from None
