"""Which policies each local endpoint has, in order; endpoints with the same list form a group.

A group is named by its policies and what they say, not by whom they select. So the chains of a group never change: a
policy that says something else makes new groups, and its pods move there when the dispatch is written, all at once.
Were chains rewritten in place, a pod that joins at the same moment would meet rules that were never meant for it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NewType

from policy.index import Index
from policy.model import Endpoint, EndpointId, Pods, Policy, PolicyKey, digest

GroupId = NewType("GroupId", str)
"""A digest of the group's policies and their rules."""


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints with exactly these policies, in this order."""

    id: GroupId
    policies: tuple[Policy, ...] = field(compare=False)

    @property
    def keys(self) -> tuple[PolicyKey, ...]:
        """The policies' names, in order."""
        return tuple(policy.key for policy in self.policies)


def order(policy: Policy) -> tuple[str]:
    """Where a policy stands among others. NetworkPolicies only add to each other, so any fixed order will do."""
    return (policy.key,)


def group_of(policies: Iterable[Policy]) -> Group:
    """The group of endpoints that have these policies."""
    ordered = tuple(sorted(policies, key=order))
    text = "\0".join(f"{policy.key} {policy.version}" for policy in ordered)
    return Group(GroupId(digest(text)), ordered)


class Resolver:
    """Local endpoints, and all policies with their subjects."""

    def __init__(self) -> None:
        self._index = Index()
        self._policies: dict[PolicyKey, Policy] = {}
        self._policies_of: dict[Pods, set[PolicyKey]] = {}
        """Policies with the same subject share it."""
        self._selected_by: dict[EndpointId, set[PolicyKey]] = {}
        self._touched: set[EndpointId] = set()

    def admit(self, endpoint: Endpoint) -> None:
        """Take in a local endpoint that isn't there."""
        subjects = self._index.admit(endpoint.id, endpoint.namespace, endpoint.labels)
        self._selected_by[endpoint.id] = {key for pods in subjects for key in self._policies_of[pods]}
        self._touched.add(endpoint.id)

    def expel(self, endpoint: EndpointId) -> None:
        """Forget a local endpoint."""
        self._index.expel(endpoint)
        del self._selected_by[endpoint]
        self._touched.add(endpoint)

    def relabel(self, namespace: str, declared: Mapping[str, str] | None) -> None:
        """A namespace's object has these labels, or is gone."""
        for match in self._index.relabel(namespace, declared):
            for key in self._policies_of[match.pods]:
                self._mark(match.endpoint, key, selected=match.selected)

    def set_policy(self, policy: Policy) -> None:
        """A policy is in force, whatever it said and selected before."""
        before = self._policies.get(policy.key)
        if before is not None and before.subject != policy.subject:
            self.drop_policy(policy.key)
        self._policies[policy.key] = policy
        self._policies_of.setdefault(policy.subject, set()).add(policy.key)
        for endpoint in self._index.watch(policy.subject):
            self._mark(endpoint, policy.key, selected=True)

    def drop_policy(self, key: PolicyKey) -> None:
        """A policy that is in force is no longer."""
        subject = self._policies.pop(key).subject
        for endpoint in self._index.watch(subject):
            self._mark(endpoint, key, selected=False)
        self._policies_of[subject].discard(key)
        if not self._policies_of[subject]:
            del self._policies_of[subject]
            self._index.forget(subject)

    def group_of(self, endpoint: EndpointId) -> Group | None:
        """The group of a local endpoint; None if it isn't there."""
        keys = self._selected_by.get(endpoint)
        return None if keys is None else group_of(self._policies[key] for key in keys)

    def take_touched(self) -> set[EndpointId]:
        """The endpoints whose group may have changed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def _mark(self, endpoint: EndpointId, key: PolicyKey, *, selected: bool) -> None:
        keys = self._selected_by[endpoint]
        if selected:
            keys.add(key)
        else:
            keys.discard(key)
        self._touched.add(endpoint)
