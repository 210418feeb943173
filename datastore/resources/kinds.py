"""Every kind there is, and how to find one by what a document says or a person types.

core/v1 Node and our own Node share their names. `nodes` alone is ours, which every shape of the product has;
`nodes.core` is Kubernetes'.
"""

from difflib import get_close_matches

from datastore.errors import Invalid, UnknownKind
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod, ServiceAccount
from datastore.resources.lease import Lease
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint

KINDS: tuple[type[Resource], ...] = (
    IPPool,
    IPReservation,
    IPBlock,
    Node,
    WorkloadEndpoint,
    ClusterConfiguration,
    NetworkPolicy,
    Namespace,
    Pod,
    KubernetesNode,
    ServiceAccount,
    Lease,
)
"""Where two share a name, the first has it."""

CORE = "core"
"""What people call Kubernetes' group without a name."""


def of(api_version: object, name: object) -> type[Resource]:
    """The kind that a document's apiVersion and kind name.

    Raises:
        Invalid: one is missing or unknown; says what is meant perhaps, or what there is.
    """
    for path, value in (("apiVersion", api_version), ("kind", name)):
        if not isinstance(value, str) or not value:
            raise Invalid(path, "is missing" if value is None else f"{value!r} is no name")
    for kind in KINDS:
        if (kind.KIND.api_version, kind.KIND.name) == (api_version, name):
            return kind
    versions = [kind.KIND.api_version for kind in KINDS if name == kind.KIND.name]
    if versions:
        raise Invalid("apiVersion", f"{api_version!r} has no {name} here; there is {' and '.join(versions)}")
    known = [kind.KIND.name for kind in KINDS]
    near = get_close_matches(str(name), known)
    hint = f"meant is perhaps {' or '.join(near)}" if near else f"there are {', '.join(dict.fromkeys(known))}"
    raise Invalid("kind", f"{name!r} is no kind here; {hint}")


def named(text: str) -> type[Resource]:
    """The kind that a person calls `text`: plural, singular, short name or kind, in any case, or plural.group.

    Raises:
        UnknownKind: none is called so; names near matches.
    """
    wanted = text.strip().lower()
    if wanted in _BY_NAME:
        return _BY_NAME[wanted]
    raise UnknownKind(text, tuple(get_close_matches(wanted, _BY_NAME, n=3)))


def _names(kind: type[Resource]) -> list[str]:
    own = kind.KIND
    bare = [own.plural, own.name.lower(), *own.short]
    return [*bare, *(f"{name}.{own.group or CORE}" for name in bare)]


_BY_NAME = {name: kind for kind in reversed(KINDS) for name in _names(kind)}
