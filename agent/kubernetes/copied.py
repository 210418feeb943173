"""Where an ADD learns of its pod when Kubernetes' objects are copied into the datastore: the copy, else the API.

    the copy has the pod     as good as a watch of the API: what the copy has before a Pod are its policies
    it hasn't                the API is asked for the pod, its namespace and that namespace's policies, once; if this
                             node has just these policies in force, nothing is lacking: the ADD goes on
    something is lacking     that is waited for, `WAIT_S`; then the ADD fails, and the kubelet tries again

So a controller that is away keeps no pod from starting, but no pod starts without a policy that is older than itself.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from agent.graph import Graph
from cni.annotations import PREFIXES, NamespaceFacts
from cni.annotations import facts_of as facts_of_namespace
from cni.config import PodIdentity
from cni.pods import NoSuchPod, PodFacts, StoredPods
from datastore.errors import Invalid, NotFound, StoreError, Unavailable
from datastore.resources.kubernetes import Namespace
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Reader, Where
from policy.model import Policy, PolicyKey
from policy.networkpolicy import convert

log = logging.getLogger(__name__)

WAIT_S = 5.0
"""Of a kubelet's two minutes (--runtime-request-timeout); a copy that is up to date is tens of milliseconds behind."""
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the API says of a pod and of what concerns it."""

    pod: PodFacts
    namespace: NamespaceFacts
    policies: Mapping[PolicyKey, Policy]


class CopiedPods:
    """See `cni.pods.Pods`."""

    def __init__(self, graph: Graph, api: Reader, wait_s: float = WAIT_S) -> None:
        self._graph = graph
        self._api = api
        self._wait_s = wait_s

    async def facts(self, pod: PodIdentity) -> PodFacts:
        """See `Pods.facts`.

        Raises:
            NoSuchPod: it isn't there.
            Unavailable: neither the copy nor the API says enough, in time.
        """
        known = self._graph.pod(pod.namespace, pod.name, pod.uid)
        if known is not None:
            return known
        asking = asyncio.ensure_future(self._ask(pod))
        try:
            return await self._waited_for(pod, asking)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _waited_for(self, pod: PodIdentity, asking: "asyncio.Future[_Asked]") -> PodFacts:
        until = time.monotonic() + self._wait_s
        while True:
            known = self._graph.pod(pod.namespace, pod.name, pod.uid)
            if known is not None:
                return known
            lacking = self._lacking(pod.namespace, asking)
            if not lacking:
                return asking.result().pod
            if time.monotonic() > until:
                raise Unavailable(
                    f"{lacking}; pod {pod.namespace}/{pod.name} isn't in the datastore after {self._wait_s:g} s, where "
                    "tortie-controller copies it: kubectl -n tortie-system logs deployment/tortie-controller"
                )
            await asyncio.sleep(_LOOK_S)

    async def _ask(self, pod: PodIdentity) -> _Asked:
        # The pod first: what is older than it is in the answers after it.
        facts = await StoredPods(self._api).facts(pod)
        try:
            namespace = facts_of_namespace(await self._api.get(Namespace, pod.namespace))
        except NotFound:
            raise NoSuchPod(f"there is no namespace {pod.namespace}") from None
        listing = await self._api.list(NetworkPolicy, Where("namespace", pod.namespace))
        policies = {}
        for resource in listing.items:
            try:
                policy = convert(resource)
            except (Invalid, ValueError):
                continue  # no agent can put it into force
            policies[policy.key] = policy
        return _Asked(facts, _read(namespace), policies)

    def _lacking(self, namespace: str, asking: "asyncio.Future[_Asked]") -> str:
        """What keeps the pod from going without the copy, in words; empty if nothing does.

        Raises:
            NoSuchPod: it isn't there.
        """
        if not asking.done():
            return "the Kubernetes API doesn't answer"
        failure = asking.exception()
        if isinstance(failure, StoreError):
            return f"the Kubernetes API can't be asked: {failure}"
        asked = asking.result()  # raises what else there was
        if _read(self._graph.namespace(namespace)) != asked.namespace:
            return f"the datastore has not got namespace {namespace} as it is now"
        known = self._graph.policies_of(namespace)
        differing = sorted({key for key in (*known, *asked.policies) if known.get(key) != asked.policies.get(key)})
        return f"the datastore has not got NetworkPolicy {', '.join(differing[:3])} as it is now" if differing else ""


def _read(facts: NamespaceFacts) -> NamespaceFacts:
    """Without the annotations that mean nothing here, which the copy leaves out."""
    annotations = {key: value for key, value in facts.annotations.items() if key.startswith(PREFIXES)}
    return NamespaceFacts(facts.labels, annotations)
