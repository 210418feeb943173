"""What the pod that an interface is for says of itself: labels, named ports, annotations.

Where Pods are the endpoints the Pod says it; elsewhere the call itself does (`args.cni`). CNI_ARGS name the pod. Its
uid tells it from an earlier or later pod of the same name; a static pod's uid is its file's, and stands in an
annotation of the Pod that the API has for it (kubernetes pkg/kubelet/types, ConfigMirrorAnnotationKey).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from cni.config import Call, PodIdentity
from cni.netconf import Label, PortArg
from datastore.errors import NotFound
from datastore.resources.kubernetes import Pod
from datastore.store import Reader
from policy.endpoints import addresses_of, named_ports
from policy.model import Address, NamedPort

MIRROR = "kubernetes.io/config.mirror"


class NoSuchPod(Exception):
    """There is no such Pod, or another one has its name now."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A Pod, as far as its interface and its policies need it."""

    uid: str
    """As the API has it."""
    known_as: frozenset[str]
    """Every uid that a kubelet may call it by."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[NamedPort, ...] = ()
    addresses: tuple[Address, ...] = ()
    """That its kubelet or its agent has told."""

    def is_called(self, uid: str) -> bool:
        """Whether it is the pod of this uid; without one the name alone says so."""
        return not uid or uid in self.known_as


class Pods(Protocol):
    """Where pods are looked up."""

    async def facts(self, pod: PodIdentity) -> PodFacts | None:
        """What a pod says of itself; None where the call says it.

        Raises:
            NoSuchPod: it isn't there.
            StoreError: it can't be looked up.
        """
        ...


class NoPods:
    """Where the call says everything."""

    async def facts(self, pod: PodIdentity) -> PodFacts | None:
        """See `Pods.facts`."""
        return None


class StoredPods:
    """Those of a datastore, each looked up when it is asked for."""

    def __init__(self, store: Reader) -> None:
        self._store = store

    async def facts(self, pod: PodIdentity) -> PodFacts:
        """See `Pods.facts`."""
        try:
            found = facts_of(await self._store.get(Pod, pod.name, pod.namespace))
        except NotFound:
            raise NoSuchPod(f"there is no pod {pod.namespace}/{pod.name}") from None
        if not found.is_called(pod.uid):
            raise NoSuchPod(f"pod {pod.namespace}/{pod.name} has the uid {found.uid} now, not {pod.uid}")
        return found


def facts_of(pod: Pod) -> PodFacts:
    """What an object says.

    Raises:
        Invalid: an address or port that can't be understood, with its path.
    """
    uids = frozenset({pod.metadata.uid, pod.metadata.annotations.get(MIRROR, "")} - {""})
    return PodFacts(
        pod.metadata.uid,
        uids,
        pod.metadata.labels,
        pod.metadata.annotations,
        tuple(named_ports(pod)),
        addresses_of(pod),
    )


def described(call: Call, facts: PodFacts) -> Call:
    """The call with what the Pod says in the place of what the configuration says of the pod."""
    args = msgspec.structs.replace(
        call.config.args.cni,
        labels=tuple(Label(key, value) for key, value in facts.labels.items()),
        ports=tuple(PortArg(port.name, port.number, port.protocol.value) for port in facts.ports),
        annotations=facts.annotations,
    )
    config = msgspec.structs.replace(call.config, args=msgspec.structs.replace(call.config.args, cni=args))
    return call.with_config(config)


def is_named(call: Call) -> bool:
    """Whether CNI_ARGS name a pod; what only a container's id names is no Pod of an API."""
    return call.pod.name != call.attachment.container_id
