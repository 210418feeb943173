"""Which policies each local endpoint has, in order; endpoints with the same list form a group.

A group is named by its list of policies, not by what these say: a policy that changes rewrites chains in place, and no
endpoint moves.
"""

import hashlib
from collections.abc import Mapping
from typing import NewType

from policy.index import Index
from policy.model import Endpoint, EndpointId, Pods, PolicyKey

GroupId = NewType("GroupId", str)
"""16 hex digits over the keys of the group's policies."""
PolicyList = tuple[PolicyKey, ...]


def order(key: PolicyKey) -> tuple[str]:
    """Where a policy stands among others. NetworkPolicies only add to each other, so any fixed order will do."""
    return (key,)


def group_of(policies: PolicyList) -> GroupId:
    """The name of the group of endpoints that have exactly these policies, in this order."""
    return GroupId(hashlib.sha256("\0".join(policies).encode()).hexdigest()[:16])


class Resolver:
    """Local endpoints and the subjects of all policies."""

    def __init__(self) -> None:
        self._index = Index()
        self._subjects: dict[PolicyKey, Pods] = {}
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
                self._mark(match.endpoint, key, match.selected)

    def set_subject(self, key: PolicyKey, subject: Pods) -> None:
        """A policy selects `subject`, whatever it selected before."""
        if self._subjects.get(key) == subject:
            return
        self.drop_subject(key)
        self._subjects[key] = subject
        self._policies_of.setdefault(subject, set()).add(key)
        for endpoint in self._index.watch(subject):
            self._mark(endpoint, key, True)

    def drop_subject(self, key: PolicyKey) -> None:
        """A policy is gone; nothing happens if it wasn't there."""
        subject = self._subjects.pop(key, None)
        if subject is None:
            return
        for endpoint in self._index.watch(subject):
            self._mark(endpoint, key, False)
        self._policies_of[subject].discard(key)
        if not self._policies_of[subject]:
            del self._policies_of[subject]
            self._index.forget(subject)

    def policies_of(self, endpoint: EndpointId) -> PolicyList | None:
        """The policies that select a local endpoint, in order; None if it isn't there."""
        keys = self._selected_by.get(endpoint)
        return None if keys is None else tuple(sorted(keys, key=order))

    def take_touched(self) -> set[EndpointId]:
        """The endpoints whose list may have changed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def _mark(self, endpoint: EndpointId, key: PolicyKey, selected: bool) -> None:
        keys = self._selected_by[endpoint]
        if selected:
            keys.add(key)
        else:
            keys.discard(key)
        self._touched.add(endpoint)
