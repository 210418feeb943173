"""What every resource is made of: frozen values that keep the fields they don't know.

An older program that rewrites an object must not lose what a newer one put there, so each value carries the unknown
fields of its own level. They live and go with their value: replacing an allocation drops its unknown fields, keeping
it keeps them. The shape is the Kubernetes API's (apiVersion, kind, metadata, spec), camelCase outside, snake_case here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from datastore.resources import names

UNKNOWN = "-unknown-"
"""Encoded name of `Value.unknown`: no Kubernetes field can be called this, and the codec never writes it."""


class Value(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True):
    """A frozen value; `unknown` holds the fields that this program has no name for, as decoded."""

    unknown: Mapping[str, object] = msgspec.field(default_factory=dict, name=UNKNOWN)


class Metadata(Value, frozen=True, kw_only=True):
    """Kubernetes' ObjectMeta, as far as we use it; `resource_version` is the revision and is never stored inside."""

    name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    uid: str = ""
    resource_version: str = ""


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


def key_of(kind: type[Resource], name: str, namespace: str = "") -> str:
    """How messages name an object, such as `NetworkPolicy shop/db` or `IPPool default-ipv4`."""
    return f"{kind.KIND.name} {namespace}/{name}" if namespace else f"{kind.KIND.name} {name}"
