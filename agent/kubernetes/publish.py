"""Telling a pod's addresses early: an annotation on the Pod, beside the answer of its ADD.

Its kubelet tells them in status.podIPs, but seconds later, when it next looks at the pod; peers whose policies let the
pod in would refuse it until then. The annotation is a head start and no more: what can't be written isn't owed, and
whatever status.podIPs says counts before it. A pod has one annotation, so its tellings go one after the other and only
the newest of those that wait is written.
"""

import asyncio
import json
import logging

from agent.graph import Graph
from cni.records import Record
from datastore.errors import Conflict, Invalid, NotFound, StoreError
from datastore.kubernetes.cluster import Cluster
from policy.endpoints import TOLD_EARLY

log = logging.getLogger(__name__)

_TRIES = 5
_FIRST_PAUSE_S = 0.2
"""Together about 3 s; then the kubelet will have told."""
_ANSWER_FIRST_S = 0.002
"""The pod's answer is a few turns of the loop away; whatever starts before it makes it wait."""

_Key = tuple[str, str]


class PodAnnotator:
    """See `agent.surroundings.Publishing`."""

    def __init__(self, cluster: Cluster, graph: Graph) -> None:
        self._cluster = cluster
        self._graph = graph
        self._next: dict[_Key, Record] = {}
        """What is to be told, the newest of each pod."""
        self._telling: dict[_Key, asyncio.Task[None]] = {}

    def publish(self, record: Record) -> None:
        """See `cni.node.Endpoints.publish`."""
        key = record.namespace, record.pod
        if record.pod == record.container_id:
            return  # no Pod of an API
        self._next[key] = record
        if key not in self._telling:
            self._telling[key] = asyncio.create_task(self._tell(key))

    async def withdraw(self, record: Record) -> None:
        """See `cni.node.Endpoints.withdraw`; the Pod goes by itself, or its next sandbox tells anew."""

    async def run(self) -> None:
        """See `Publishing.run`: nothing is owed."""
        await asyncio.Event().wait()

    async def reconcile(self, records: list[Record]) -> None:
        """See `Publishing.reconcile`: what was to be told when the last agent ended."""
        for record in records:
            known = self._graph.pod(record.namespace, record.pod, record.uid)
            if known is not None and not known.addresses and not record.on_link:
                self.publish(record)

    async def close(self) -> None:
        """See `Publishing.close`."""
        for task in tuple(self._telling.values()):
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)

    async def _tell(self, key: _Key) -> None:
        try:
            await asyncio.sleep(_ANSWER_FIRST_S)
            while key in self._next:
                await self._tell_one(self._next.pop(key))
        finally:
            del self._telling[key]

    async def _tell_one(self, record: Record) -> None:
        known = self._graph.pod(record.namespace, record.pod, record.uid)
        uid = known.uid if known is not None else record.uid
        text = json.dumps([str(address) for address in record.addresses])
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            try:
                await self._cluster.annotate_pod(record.namespace, record.pod, uid, {TOLD_EARLY: text})
                return
            except (NotFound, Conflict, Invalid) as error:
                log.debug("pod %s/%s isn't told of: %s", record.namespace, record.pod, error)
                return  # it is gone, or another has its name
            except StoreError as error:
                failure = error
            await asyncio.sleep(pause_s)
            pause_s *= 2
            if (record.namespace, record.pod) in self._next:
                return  # there is something newer to tell
        log.info("the addresses of pod %s/%s can't be told early: %s", record.namespace, record.pod, failure)
