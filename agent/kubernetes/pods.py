"""Where an ADD learns of its pod: from the watch, which nearly always has it, else by one GET.

A kubelet learns of its pod by a watch as this agent does, and reads images and volumes before it asks for a network; so
who is asked for and isn't known came a moment ago, or was replaced by another of its name.
"""

from agent.graph import Graph
from cni.config import PodIdentity
from cni.pods import PodFacts, StoredPods
from datastore.store import Reader


class WatchedPods:
    """See `cni.pods.Pods`."""

    def __init__(self, graph: Graph, store: Reader) -> None:
        self._graph = graph
        self._stored = StoredPods(store)

    async def facts(self, pod: PodIdentity) -> PodFacts:
        """See `Pods.facts`."""
        known = self._graph.pod(pod.namespace, pod.name, pod.uid)
        return known if known is not None else await self._stored.facts(pod)
