"""Who is alive, as Pods and WorkloadEndpoints say: the witness that everybody can ask.

An address that a live one names is its, whatever the allocation says of pod, uid and node: a re-imaged node with an old
configuration once wrote a wrong node there, and live pods lost their addresses (projectcalico/calico PR #13538).

A pod that has ended (Succeeded, Failed) keeps its addresses in its status and nowhere else; a pod in its node's network
has none of its own. Source: core/v1 PodStatus.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from datastore.resources.ipblock import Allocation
from datastore.resources.kubernetes import Pod
from datastore.resources.value import key_of
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone, Reader
from ipam.block import Address
from ipam.reclaim import Api

HANDLE = "handle "
"""How an attachment stands among identities."""
_ENDED = frozenset({"Succeeded", "Failed"})
_MIRROR = "kubernetes.io/config.mirror"
"""On the API's image of a static pod: the uid by which its kubelet, and so its allocation, knows it."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A live Pod or a WorkloadEndpoint, and what it claims."""

    kind: type[Pod] | type[WorkloadEndpoint]
    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...]
    identities: tuple[str, ...]
    """How an allocation names it: a pod's uid or name, an endpoint's attachment."""

    @property
    def key(self) -> str:
        """How messages name it."""
        return key_of(self.kind, self.name, self.namespace)

    def has(self, allocation: Allocation) -> bool:
        """Whether an allocation names it."""
        return any(identity in self.identities for identity in _identities(allocation))


Counts = Callable[[Claimant], bool]


def _always(_: Claimant) -> bool:
    return True


class Claims:
    """Every claimant, found by address and by identity; kept current from listings and changes."""

    def __init__(self, resources: Iterable[Pod | WorkloadEndpoint] = ()) -> None:
        self._claimants: dict[tuple[type, str, str], Claimant] = {}
        self._by: dict[str, set[Claimant]] = {}
        for resource in resources:
            self.set(resource)

    def set(self, resource: Pod | WorkloadEndpoint) -> None:
        """One is there, or has changed."""
        self._drop(type(resource), resource.namespace, resource.name)
        claimant = _of_pod(resource) if isinstance(resource, Pod) else _of_endpoint(resource)
        if claimant is not None:
            self._claimants[type(resource), resource.namespace, resource.name] = claimant
            for key in (*claimant.addresses, *claimant.identities):
                self._by.setdefault(key, set()).add(claimant)

    def remove(self, kind: type[Pod] | type[WorkloadEndpoint], gone: Gone) -> None:
        """One is gone."""
        self._drop(kind, gone.namespace, gone.name)

    def replace(self, kind: type[Pod] | type[WorkloadEndpoint], resources: Iterable[Pod | WorkloadEndpoint]) -> None:
        """A whole listing of one kind: what isn't in it is gone."""
        for known in [one for one in self._claimants.values() if one.kind is kind]:
            self._drop(kind, known.namespace, known.name)
        for resource in resources:
            self.set(resource)

    def everyone(self) -> Iterable[Claimant]:
        """Every live Pod and every WorkloadEndpoint."""
        return self._claimants.values()

    def endpoints(self) -> Iterable[Claimant]:
        """Every WorkloadEndpoint."""
        return (one for one in self._claimants.values() if one.kind is WorkloadEndpoint)

    def of(self, address: Address, allocation: Allocation, counts: Counts = _always) -> Api:
        """What the claimants that count say of an allocation."""
        if any(counts(one) for one in self._by.get(str(address), ())):
            return Api.NAMES
        there = [one for identity in _identities(allocation) for one in self._by.get(identity, ()) if counts(one)]
        if not there:
            return Api.SILENT
        return Api.OTHERS if all(one.addresses for one in there) else Api.STARTING

    def _drop(self, kind: type, namespace: str, name: str) -> None:
        known = self._claimants.pop((kind, namespace, name), None)
        for key in (*known.addresses, *known.identities) if known is not None else ():
            found = self._by[key]
            found.discard(known)
            if not found:
                del self._by[key]


async def read(reader: Reader) -> Claims:
    """What everybody claims now, listed afresh.

    Raises:
        StoreError: the store can't be read.
    """
    pods = (await reader.list(Pod)).items
    return Claims([*pods, *(await reader.list(WorkloadEndpoint)).items])


def _of_pod(pod: Pod) -> Claimant | None:
    if pod.status.phase in _ENDED or pod.spec.host_network:
        return None
    said = (pod.status.pod_ip, *(one.ip for one in pod.status.pod_ips))
    addresses = tuple(dict.fromkeys(_canonical(text) for text in said if text))
    uids = (pod.metadata.uid, pod.metadata.annotations.get(_MIRROR, ""))
    named = (*(f"uid {uid}" for uid in uids if uid), f"pod {pod.namespace}/{pod.name}")
    return Claimant(Pod, pod.namespace, pod.name, pod.spec.node_name, addresses, named)


def _of_endpoint(endpoint: WorkloadEndpoint) -> Claimant:
    spec = endpoint.spec
    addresses = tuple(_canonical(text) for text in spec.addresses)
    attachment = f"{HANDLE}{spec.network}:{spec.container_id}:{spec.interface}"
    return Claimant(WorkloadEndpoint, endpoint.namespace, endpoint.name, spec.node, addresses, (attachment,))


def _identities(allocation: Allocation) -> tuple[str, ...]:
    """How an allocation's owner may be found; a uid tells a pod from a later one of its name."""
    attachment = f"{HANDLE}{allocation.handle}"
    if allocation.uid:
        return attachment, f"uid {allocation.uid}"
    return (attachment, f"pod {allocation.namespace}/{allocation.pod}") if allocation.pod else (attachment,)


def _canonical(text: str) -> str:
    """The one way to write an address; only IPv6 has others."""
    try:
        return str(ip_address(text)) if ":" in text else text
    except ValueError:
        return text
