"""What differs between Kubernetes and everywhere else, put together; `agent.agent` knows only this.

| | elsewhere (`Elsewhere`) | on Kubernetes (`agent.kubernetes`) |
|---|---|---|
| endpoints | WorkloadEndpoints, which agents write | Pods, which agents annotate |
| labels and ports of a pod | what its ADD says | what its Pod says, live |
| the machine's identity | /etc/machine-id | the uid of the Kubernetes Node |
| the node's addresses | those of the default route's interface | the Kubernetes Node's InternalIPs, followed |
| people are told | by the log | by Events, too |
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from agent.graph import Graph
from agent.options import EndpointKind, Options
from agent.publish import Publisher
from cni.node import Endpoints
from cni.pods import NoPods, Pods
from cni.records import Record
from datastore.errors import Invalid
from datastore.events import Events, NoEvents
from datastore.resources.value import NO_UNKNOWN, Resource, UnknownFields
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from ipam.block import Address


class Replaced(Exception):
    """The Kubernetes Node isn't the one that this agent began with: it is to start anew, as another machine."""

    def __init__(self, node: str) -> None:
        super().__init__(
            f"Kubernetes Node {node} was deleted and registered anew: starting anew under its new identity"
        )


class Publishing(Endpoints, Protocol):
    """How other nodes learn of this node's pods."""

    async def run(self) -> None:
        """Tell what could not be told, now and then, without end."""
        ...

    async def reconcile(self, records: list[Record]) -> None:
        """Tell what these records say and isn't told, and no more.

        Raises:
            StoreError: the store can't be used.
        """
        ...

    async def close(self) -> None:
        """Wait for what is being told."""
        ...


@dataclass(frozen=True, slots=True)
class Following:
    """What an agent wants to hear of."""

    moved: Callable[[tuple[Address, ...]], None]
    """The node has these addresses now."""
    serves: asyncio.Event
    """Set once ADDs are served."""


class Surroundings(Protocol):
    """What an agent needs to know of where it is."""

    @property
    def endpoint_kind(self) -> type[Resource]:
        """What pods are known by."""
        ...

    @property
    def events(self) -> Events:
        """Where people look."""
        ...

    async def completed(self, options: Options) -> Options:
        """The options with what isn't given filled in from here; waits until it is known."""
        ...

    def publisher(self, graph: Graph) -> Publishing:
        """How other nodes learn of this node's pods."""
        ...

    def pods(self, graph: Graph) -> Pods:
        """Where an ADD learns of its pod."""
        ...

    def of_node_object(self) -> UnknownFields:
        """What the metadata of this node's Node is to hold besides its name and labels."""
        ...

    def work(self, following: Following) -> list[Coroutine[Any, Any, None]]:
        """What goes on as long as the agent does."""
        ...

    async def close(self) -> None:
        """Let go of what isn't the datastore's."""
        ...


def surroundings_of(options: Options, store: Store) -> Surroundings:
    """Those that the options say; `store` is as it was opened."""
    if options.endpoints is not EndpointKind.PODS:
        return Elsewhere(store, options.node)
    # Only who is on Kubernetes pays for its client: 0.3 s and 20 MB.
    from agent.kubernetes.surroundings import OnKubernetes
    from datastore.kubernetes.address import parse
    from datastore.kubernetes.store import KubernetesStore

    if options.kubernetes:
        return OnKubernetes(KubernetesStore.unopened(parse(options.kubernetes)), options.node, copied_into=store)
    if not isinstance(store, KubernetesStore):
        raise Invalid("--endpoints", "pods are in a Kubernetes API; the datastore is another")
    return OnKubernetes(store, options.node)


class Elsewhere:
    """See `Surroundings`."""

    endpoint_kind: type[Resource] = WorkloadEndpoint

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self.events: Events = NoEvents()

    async def completed(self, options: Options) -> Options:
        """See `Surroundings.completed`."""
        return options

    def publisher(self, graph: Graph) -> Publishing:
        """See `Surroundings.publisher`."""
        return Publisher(self._store, self._node)

    def pods(self, graph: Graph) -> Pods:
        """See `Surroundings.pods`."""
        return NoPods()

    def of_node_object(self) -> UnknownFields:
        """See `Surroundings.of_node_object`."""
        return NO_UNKNOWN

    def work(self, following: Following) -> list[Coroutine[Any, Any, None]]:
        """See `Surroundings.work`."""
        return []

    async def close(self) -> None:
        """See `Surroundings.close`."""
