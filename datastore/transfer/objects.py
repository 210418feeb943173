"""Which objects go from one datastore to another, in which order, and what of them counts.

    ClusterConfiguration, IPReservation, IPBlock, ..., IPPool

Blocks come before pools: an agent that finds a pool claims blocks in it, so it must find the blocks that there are.

| kind | goes | why |
|---|---|---|
| Lease | nowhere | who leads says so anew |
| Pod, Node of core | nowhere from or to Kubernetes | they are its own state; a copy would be nobody's to keep true |
| Namespace, ServiceAccount | never into Kubernetes | its people make them there |
| Namespace, ServiceAccount | out of Kubernetes | policies are nothing without the labels that they select |
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from datastore import codec
from datastore.resources import kinds
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolStatus
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod, ServiceAccount
from datastore.resources.lease import Lease
from datastore.resources.value import NO_UNKNOWN, Resource, UnknownFields
from datastore.store import Revision

R = TypeVar("R", bound=Resource)

_FIRST: tuple[type[Resource], ...] = (ClusterConfiguration, IPReservation, IPBlock)
_LAST: tuple[type[Resource], ...] = (IPPool,)
ORDER = (*_FIRST, *(kind for kind in kinds.KINDS if kind not in (*_FIRST, *_LAST, Lease)), *_LAST)
"""Every kind that goes anywhere, in the order of writing."""
NATIVE = ("kubernetes",)
"""Schemes of datastores that are a Kubernetes API."""
_ITS_OWN = (Pod, KubernetesNode)
_ITS_PEOPLES = (Namespace, ServiceAccount)


_SERVERS = frozenset(
    {
        *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName"),
        *("generation", "managedFields", "ownerReferences", "selfLink"),
    }
)
"""Of an object's metadata, what a Kubernetes API server keeps for itself or for others of its objects."""


_UNCOUNTED: IPPoolStatus = next(one.default for one in msgspec.structs.fields(IPPool) if one.name == "status")
"""The default itself, which msgspec leaves out when it encodes."""


def kept_out(kind: type[Resource], source: str, target: str) -> str:
    """Why a kind doesn't go between datastores of these schemes; empty if it does. An empty scheme is a file's."""
    if kind is Lease:
        return "who leads says so anew"
    if kind in _ITS_OWN and (source in NATIVE or target in NATIVE):
        return "they are Kubernetes' own state"
    if kind in _ITS_PEOPLES and target in NATIVE:
        return "Kubernetes' people make them there"
    return ""


def bare(resource: R) -> R:
    """What counts of an object: neither its store's revision and generation, nor what each store's programs write anew.

    The latter is a pool's status, and the uid of all but Pods. What a migration left on its way is off: a block is
    thawed, and the configuration names no migration.
    """
    unknown = {name: value for name, value in resource.metadata.unknown.items() if name not in _SERVERS}
    metadata = msgspec.structs.replace(
        resource.metadata,
        resource_version="",
        generation=0,
        uid=resource.metadata.uid if isinstance(resource, Pod) else "",
        unknown=UnknownFields(unknown) if unknown else NO_UNKNOWN,
    )
    resource = msgspec.structs.replace(resource, metadata=metadata)
    match resource:
        case IPBlock() if resource.spec.frozen:
            return msgspec.structs.replace(resource, spec=msgspec.structs.replace(resource.spec, frozen=""))
        case IPPool():
            return msgspec.structs.replace(resource, status=_UNCOUNTED)
        case ClusterConfiguration() if resource.spec.migration is not None:
            return msgspec.structs.replace(resource, spec=msgspec.structs.replace(resource.spec, migration=None))
        case _:
            return resource


def same(one: Resource, other: Resource) -> bool:
    """Whether two stores hold the same thing."""
    return bare(one) == bare(other)


def covers(made: Resource, wanted: Resource) -> bool:
    """Whether a store has all of what it was given; a Kubernetes API server fills in defaults besides."""
    return _covers(codec.document(bare(made)), codec.document(bare(wanted)))


def _covers(made: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        return isinstance(made, dict) and all(name in made and _covers(made[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list | tuple):
        if not isinstance(made, list | tuple) or len(made) != len(wanted):
            return False
        return all(_covers(one, other) for one, other in zip(made, wanted, strict=True))
    return made == wanted


def at(resource: R, known: Resource) -> R:
    """The object, to be written over what is `known` to be there."""
    revision, uid = known.metadata.resource_version, known.metadata.uid
    metadata = msgspec.structs.replace(resource.metadata, resource_version=revision, uid=uid)
    resource = msgspec.structs.replace(resource, metadata=metadata)
    if isinstance(resource, IPPool) and isinstance(known, IPPool):
        return msgspec.structs.replace(resource, status=known.status)
    return resource


def identity_of(revision: Revision) -> str:
    """The identity of the store that gave a revision (`revisions.Stamp`)."""
    return f"{revision}--".split("-")[1]


def named(names: Iterable[str]) -> tuple[type[Resource], ...]:
    """The kinds that a person names, in the order of writing; all of them for no name.

    Raises:
        UnknownKind: one is none.
    """
    wanted = [kinds.named(name) for name in names]
    return tuple(kind for kind in ORDER if kind in wanted or not wanted)
