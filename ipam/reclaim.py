"""Which allocations have no owner any more: evidence in, verdict out; no I/O. The table is in `DESIGN.md`.

An allocation is its owner's until every witness that can know denies it, for a while, and once more just before:

    API       Pods and WorkloadEndpoints: who is alive, with which addresses (`ipam.claims`)
    record    the node's own files: attachments made, being made, being removed
    kernel    the node's own routes: a /32 to a pod's link

A node that is there judges its own allocations, for only it can ask the last two; of a node whose Node object is gone
the controller judges, by the first alone. Nobody judges for a node that is there and silent.

Why so: Calico's controller freed addresses of live pods whose allocation named a wrong node (#5044, PR #13538), and let
dead ones stand where it waited for one witness that never spoke (#9618).
"""

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from ipam.handles import is_attachments

K = TypeVar("K", bound=Hashable)

TUNNEL = "tunnel/"
"""How handles of tunnel ends begin; the node's name follows."""


class Kind(Enum):
    """What an owner is, by its handle."""

    ATTACHMENT = "attachment"
    TUNNEL = "tunnel"
    MANUAL = "manual"
    """Taken by hand or by another program: it lives until it is given back."""


class Api(Enum):
    """What Pods and WorkloadEndpoints say of an allocation."""

    SILENT = "no endpoint names it"
    NAMES = "an endpoint names it"
    STARTING = "its pod is there and hasn't said its addresses yet"
    OTHERS = "its pod is there with other addresses"
    """An earlier sandbox's address, or one of another network: only the pod's node can tell."""


@dataclass(frozen=True, slots=True)
class Here:
    """What a node sees of an allocation of its own, and nobody else can."""

    node: str
    machine: str
    recorded: bool
    """A record or a journal entry has the address, or the attachment is still being made or removed."""
    routed: bool | None
    """A route leads from this node to the address, by a pod's link; None: the address is on another plugin's link."""
    busy: bool = False
    """Somebody holds the handle, or a write for it may be in flight."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the witnesses said of one allocation."""

    handle: str
    home: str
    """The node that it lives and dies with (`home_of`)."""
    machine: str | None
    """Whose that node's name is, by its Node object; None: there is no such Node."""
    api: Api
    here: Here | None = None
    """None: it is the controller who looks."""
    frozen: bool = False
    """Its block is being moved to another datastore."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an allocation looks ownerless now, and why, in words."""

    ownerless: bool
    reason: str


def kind_of(handle: str) -> Kind:
    """What the owner with this handle is."""
    if is_attachments(handle):
        return Kind.ATTACHMENT
    return Kind.TUNNEL if handle.startswith(TUNNEL) else Kind.MANUAL


def home_of(handle: str, node: str) -> str:
    """The node that an allocation lives and dies with: a tunnel end's own, else the one that asked."""
    return handle.removeprefix(TUNNEL).partition("/")[0] if handle.startswith(TUNNEL) else node


def judge(evidence: Evidence) -> Verdict:
    """Whether an allocation looks ownerless; in doubt it doesn't."""
    kind = kind_of(evidence.handle)
    if evidence.frozen:
        return _kept("its block is being moved to another datastore")
    if kind is Kind.MANUAL:
        return _kept("it was taken by hand")
    if evidence.here is not None:
        return _of_own(evidence, evidence.here, kind)
    if evidence.machine is not None:
        return _kept(f"node {evidence.home} is there and looks after it")
    if kind is Kind.TUNNEL:
        return Verdict(True, f"it was the tunnel end of node {evidence.home}")
    return Verdict(evidence.api is Api.SILENT, evidence.api.value)


def _of_own(evidence: Evidence, here: Here, kind: Kind) -> Verdict:
    if (evidence.home, evidence.machine) != (here.node, here.machine):
        return _kept(f"it is for node {evidence.home} to judge, or for the controller")
    if kind is Kind.TUNNEL:
        return _kept("it is a tunnel end of this node")
    if here.busy:
        return _kept("somebody is at work on it")
    if here.recorded:
        return _kept("this node has a record of it")
    if here.routed is None:
        return _kept("it is on another plugin's link, where this node can't look")
    if here.routed:
        return _kept("this node has a route to it")
    if evidence.api in (Api.NAMES, Api.STARTING):
        return _kept(evidence.api.value)
    return Verdict(True, f"neither a record nor a route of this node has it, and {evidence.api.value}")


def _kept(reason: str) -> Verdict:
    return Verdict(False, reason)


class Grace(Generic[K]):
    """Since when something has looked so at every look, to this observer and by its own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[K, float] = {}
        self._looked = clock()

    def look(self, suspects: Iterable[K], longest_gap_s: float) -> dict[K, float]:
        """How long, in seconds, each of these has looked so. What isn't among them is forgotten.

        So is everything where nobody looked for `longest_gap_s`: what was contrary meanwhile would have gone unseen.
        """
        now = self._clock()
        before = self._since if now - self._looked <= longest_gap_s else {}
        self._looked = now
        self._since = {one: before.get(one, now) for one in suspects}
        return {one: now - since for one, since in self._since.items()}
