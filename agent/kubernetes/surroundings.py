"""`agent.surroundings` on Kubernetes, whose API is the datastore, or is copied into it by the controller.

With a copy an agent watches nothing at the API. What is left there of each agent: its Kubernetes Node, read at start
and every few minutes, and its condition; an annotation for each pod; Events; and what `CopiedPods` asks about a pod
that the copy hasn't yet.
"""

import dataclasses
import time
from collections.abc import Coroutine
from typing import Any

from agent.graph import Graph
from agent.kubernetes.copied import CopiedPods
from agent.kubernetes.machine import NodeKeeper, internal_ips, known_node
from agent.kubernetes.pods import WatchedPods
from agent.kubernetes.publish import PodAnnotator
from agent.options import Options
from agent.surroundings import Following
from cni.pods import Pods
from datastore.kubernetes.recorder import Recorder
from datastore.kubernetes.store import KubernetesStore
from datastore.resources.kubernetes import KubernetesNode, Pod
from datastore.resources.value import NO_UNKNOWN, Resource, UnknownFields
from datastore.store import Store

COMPONENT = "tortie-agent"


class OnKubernetes:
    """See `agent.surroundings.Surroundings`."""

    endpoint_kind: type[Resource] = Pod

    def __init__(self, store: KubernetesStore, node: str, copied_into: Store | None = None) -> None:
        self._store = store
        self._copied_into = copied_into
        """Where Kubernetes' objects are copied to; None: the API itself is the datastore."""
        self._node = node
        self._cluster = store.cluster(COMPONENT, node)
        self._uid = ""
        self._keeper: NodeKeeper | None = None
        self.events = Recorder(self._cluster, time.monotonic)

    async def completed(self, options: Options) -> Options:
        """See `Surroundings.completed`."""
        found = await known_node(self._cluster, self._node, self._copied_into)
        self._uid = found.uid
        given = bool(options.node_ips)
        self._keeper = NodeKeeper(self._cluster, self._node, "" if options.machine else found.uid, given=given)
        return dataclasses.replace(
            options, machine=options.machine or found.uid, node_ips=options.node_ips or internal_ips(found)
        )

    def publisher(self, graph: Graph) -> PodAnnotator:
        """See `Surroundings.publisher`."""
        return PodAnnotator(self._cluster, graph)

    def pods(self, graph: Graph) -> Pods:
        """See `Surroundings.pods`."""
        return WatchedPods(graph, self._store) if self._copied_into is None else CopiedPods(graph, self._store)

    def of_node_object(self) -> UnknownFields:
        """See `Surroundings.of_node_object`: our Node goes with its Kubernetes Node, by Kubernetes' collector."""
        if not self._uid:
            return NO_UNKNOWN
        kind = KubernetesNode.KIND
        owner = {"apiVersion": kind.api_version, "kind": kind.name, "name": self._node, "uid": self._uid}
        return UnknownFields({"ownerReferences": [owner]})

    def work(self, following: Following) -> list[Coroutine[Any, Any, None]]:
        """See `Surroundings.work`."""
        return [self._keeper.run(following.moved, following.serves)] if self._keeper is not None else []

    async def close(self) -> None:
        """See `Surroundings.close`."""
        if self._copied_into is not None:
            await self._store.close()
