"""Which NetworkPolicies do nothing as they stand: they select no pod, or say what isn't understood.

Admission judges one object alone and can't see either. A policy for every pod of its namespace is meant for those to
come, so only one that asks for labels is found wanting. Pods are known by their labels alone, equal ones once: a
ReplicaSet's thousand are one entry.
"""

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from datastore.errors import Invalid
from datastore.events import About
from datastore.resources.kubernetes import Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone
from policy.endpoints import FINISHED
from policy.networkpolicy import convert
from policy.selectors import Selector, from_label_selector

GRACE_S = 60.0
"""A policy and its first pods are often made by one command."""

K = TypeVar("K", bound=Hashable)
_Labels = frozenset[tuple[str, str]]
_Name = tuple[str, str]


@dataclass(slots=True)
class _Known:
    about: About
    selector: Selector
    witness: _Labels | None = None
    """Labels of pods that it selects."""
    idle_since: float | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """A policy that selects no pod."""

    about: About
    selector: str


class Selected:
    """Policies and pods of a cluster; kept current from listings and changes."""

    def __init__(self) -> None:
        self.wrong: dict[_Name, tuple[About, str]] = {}
        """Policies that aren't understood, and why."""
        self._policies: dict[_Name, _Known] = {}
        self._pods: dict[tuple[type, str, str], _Labels] = {}
        self._labels: dict[str, dict[_Labels, int]] = {}
        """How many pods of a namespace have these labels."""
        self._changed: set[str] = set()
        """Namespaces in which idle policies are to be looked at again."""

    def set_pod(self, pod: Pod | WorkloadEndpoint) -> None:
        """One is there, or has changed; who is in its node's network, or has ended, is subject to no policy."""
        self.remove_pod(type(pod), Gone(pod.namespace, pod.name))
        if isinstance(pod, Pod) and (pod.spec.host_network or pod.status.phase in FINISHED):
            return
        among = self._labels.setdefault(pod.namespace, {})
        labels = frozenset(pod.metadata.labels.items())
        among[labels] = among.get(labels, 0) + 1
        self._pods[type(pod), pod.namespace, pod.name] = labels
        self._changed.add(pod.namespace)

    def remove_pod(self, kind: type, gone: Gone) -> None:
        """One is gone."""
        labels = self._pods.pop((kind, gone.namespace, gone.name), None)
        if labels is None:
            return
        among = self._labels[gone.namespace]
        among[labels] -= 1
        if not among[labels]:
            del among[labels]

    def replace_pods(self, kind: type, pods: Iterable[Pod | WorkloadEndpoint]) -> None:
        """A whole listing of one kind: what isn't in it is gone."""
        for _, namespace, name in [one for one in self._pods if one[0] is kind]:
            self.remove_pod(kind, Gone(namespace, name))
        for pod in pods:
            self.set_pod(pod)

    def set_policy(self, policy: NetworkPolicy) -> None:
        """One is there, or has changed."""
        name, about = (policy.namespace, policy.name), About.of(policy)
        self.remove_policy(Gone(*name))
        try:
            convert(policy)
            selector = from_label_selector(policy.spec.pod_selector)
        except Invalid as error:
            self.wrong[name] = about, str(error)
        else:
            self._policies[name] = _Known(about, selector)
            self._changed.add(policy.namespace)

    def remove_policy(self, gone: Gone) -> None:
        """One is gone."""
        self._policies.pop((gone.namespace, gone.name), None)
        self.wrong.pop((gone.namespace, gone.name), None)

    def replace_policies(self, policies: Iterable[NetworkPolicy]) -> None:
        """A whole listing: what isn't in it is gone."""
        for namespace, name in [*self._policies, *self.wrong]:
            self.remove_policy(Gone(namespace, name))
        for policy in policies:
            self.set_policy(policy)

    def idle(self, now: float) -> list[Idle]:
        """The policies that have asked for the grace, at every look, for labels that no pod of their namespace has."""
        self._look(now)
        return [
            Idle(one.about, str(one.selector))
            for one in self._policies.values()
            if one.idle_since is not None and now - one.idle_since >= GRACE_S
        ]

    def _look(self, now: float) -> None:
        changed, self._changed = self._changed, set()
        for (namespace, _), one in self._policies.items():
            among = self._labels.get(namespace, {})
            if not one.selector.requirements or one.witness in among:
                continue
            if one.idle_since is None or namespace in changed:
                one.witness = next((labels for labels in among if one.selector.matches(dict(labels))), None)
            if one.witness is not None:
                one.idle_since = None
            elif one.idle_since is None:
                one.idle_since = now


class Sometimes(Generic[K]):
    """What is to be told once in a while, and a few at a time: Events of other things must find room."""

    def __init__(self, again_s: float, at_once: int) -> None:
        self._again_s = again_s
        self._at_once = at_once
        self._told: dict[K, float] = {}

    def due(self, so: Collection[K], now: float) -> list[K]:
        """Which of all that is so are to be told now; what is so no more is forgotten."""
        self._told = {one: at for one, at in self._told.items() if one in so}
        late = [one for one in so if one not in self._told or now - self._told[one] >= self._again_s]
        self._told |= dict.fromkeys(late[: self._at_once], now)
        return late[: self._at_once]
