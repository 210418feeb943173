"""Which endpoints each watched `Pods` selects, kept up to date at the cost of what changes.

    Pods ──> scope (one namespace, or those a selector matches) ──> namespaces ──> endpoints

All `Pods` with the same namespace part share a scope; a scope knows its namespaces, and files its `Pods` by a label
they need. So an endpoint asks only the scopes of its namespace, and there only for its own labels. A namespace that
changes its labels enters and leaves scopes, and its endpoints are looked at in these alone.

A namespace without an object still has its name as a label, so endpoints may arrive before their namespace.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from policy.labelled import Labelled, Needing
from policy.model import EndpointId, Pods, namespace_labels
from policy.selectors import Selector


@dataclass(frozen=True, slots=True)
class Match:
    """An endpoint began or ceased to be selected."""

    pods: Pods
    endpoint: EndpointId
    selected: bool


@dataclass(slots=True, eq=False)
class _Scope:
    """The namespaces of some `Pods`, and these `Pods`; `selector` is None where it is one namespace by name."""

    selector: Selector | None
    namespaces: set[str] = field(default_factory=set)
    pods: Needing[Pods] = field(default_factory=Needing)
    size: int = 0
    """Endpoints in all its namespaces."""


@dataclass(slots=True)
class _Namespace:
    labels: Mapping[str, str]
    declared: bool = False
    endpoints: set[EndpointId] = field(default_factory=set)
    scopes: dict[str, _Scope] = field(default_factory=dict)


class Index:
    """Endpoints with their labels and namespaces on one side, watched `Pods` on the other."""

    def __init__(self) -> None:
        self._endpoints: dict[EndpointId, tuple[str, Mapping[str, str]]] = {}
        self._endpoints_by_label: Labelled[EndpointId] = Labelled()
        self._namespaces: dict[str, _Namespace] = {}
        self._namespaces_by_label: Labelled[str] = Labelled()
        self._scopes: dict[str, _Scope] = {}
        self._scopes_by_need: Needing[str] = Needing()
        self._selected: dict[Pods, set[EndpointId]] = {}

    def admit(self, endpoint: EndpointId, namespace: str, labels: Mapping[str, str]) -> list[Pods]:
        """Take in an endpoint that isn't there; gives what selects it."""
        home = self._enter(namespace)
        home.endpoints.add(endpoint)
        self._endpoints[endpoint] = namespace, labels
        self._endpoints_by_label.add(endpoint, labels)
        for scope in home.scopes.values():
            scope.size += 1
        return self._select(endpoint, labels, home.scopes.values())

    def expel(self, endpoint: EndpointId) -> list[Pods]:
        """Forget an endpoint; gives what selected it."""
        namespace, labels = self._endpoints.pop(endpoint)
        home = self._namespaces[namespace]
        home.endpoints.discard(endpoint)
        self._endpoints_by_label.discard(endpoint, labels)
        for scope in home.scopes.values():
            scope.size -= 1
        lost = self._deselect(endpoint, labels, home.scopes.values())
        self._leave_if_bare(namespace)
        return lost

    def relabel(self, namespace: str, declared: Mapping[str, str] | None) -> list[Match]:
        """A namespace's object has these labels, or is gone (None); gives what changed."""
        home = self._enter(namespace)
        home.declared = declared is not None
        labels = namespace_labels(namespace, declared or {})
        changes = self._move(namespace, home, labels) if labels != home.labels else []
        self._leave_if_bare(namespace)
        return changes

    def watch(self, pods: Pods) -> Set[EndpointId]:
        """Keep track of what `pods` selects; gives the live set of it. Watching again gives the same."""
        if pods not in self._selected:
            scope = self._scope_of(pods)
            scope.pods.add(pods, pods.selector)
            self._selected[pods] = {
                endpoint
                for endpoint in self._candidates(pods, scope)
                if self._endpoints[endpoint][0] in scope.namespaces
                and pods.selector.matches(self._endpoints[endpoint][1])
            }
        return self._selected[pods]

    def forget(self, pods: Pods) -> Set[EndpointId]:
        """Watch `pods` no more; gives what it selected last."""
        key = _scope_key(pods)
        scope = self._scopes[key]
        scope.pods.discard(pods, pods.selector)
        if not scope.pods:
            self._drop_scope(key, scope)
        return self._selected.pop(pods)

    def _select(self, endpoint: EndpointId, labels: Mapping[str, str], scopes: Iterable[_Scope]) -> list[Pods]:
        found = [pods for scope in scopes for pods in scope.pods.candidates(labels) if pods.selector.matches(labels)]
        for pods in found:
            self._selected[pods].add(endpoint)
        return found

    def _deselect(self, endpoint: EndpointId, labels: Mapping[str, str], scopes: Iterable[_Scope]) -> list[Pods]:
        candidates = (pods for scope in scopes for pods in scope.pods.candidates(labels))
        lost = [pods for pods in candidates if endpoint in self._selected[pods]]
        for pods in lost:
            self._selected[pods].discard(endpoint)
        return lost

    def _candidates(self, pods: Pods, scope: _Scope) -> Iterable[EndpointId]:
        """The fewer of: endpoints with a label that `pods` needs; endpoints in its namespaces."""
        narrowed = self._endpoints_by_label.narrowed(pods.selector)
        if narrowed is not None and sum(map(len, narrowed)) <= scope.size:
            return (endpoint for shelf in narrowed for endpoint in shelf)
        return (endpoint for name in scope.namespaces for endpoint in self._namespaces[name].endpoints)

    def _enter(self, name: str) -> _Namespace:
        """The namespace, made with its name alone where nothing was known of it."""
        if name not in self._namespaces:
            labels = namespace_labels(name, {})
            self._namespaces[name] = _Namespace(labels, scopes=self._scopes_matching(name, labels))
            self._namespaces_by_label.add(name, labels)
            for scope in self._namespaces[name].scopes.values():
                scope.namespaces.add(name)
        return self._namespaces[name]

    def _leave_if_bare(self, name: str) -> None:
        home = self._namespaces[name]
        if not home.endpoints and not home.declared:
            self._namespaces_by_label.discard(name, home.labels)
            for scope in home.scopes.values():
                scope.namespaces.discard(name)
            del self._namespaces[name]

    def _move(self, name: str, home: _Namespace, labels: Mapping[str, str]) -> list[Match]:
        """Give a namespace other labels: out of some scopes, into others."""
        self._namespaces_by_label.discard(name, home.labels)
        self._namespaces_by_label.add(name, labels)
        before, home.labels, home.scopes = home.scopes, labels, self._scopes_matching(name, labels)
        left = [scope for key, scope in before.items() if key not in home.scopes]
        entered = [scope for key, scope in home.scopes.items() if key not in before]
        for scope in left:
            scope.namespaces.discard(name)
            scope.size -= len(home.endpoints)
        for scope in entered:
            scope.namespaces.add(name)
            scope.size += len(home.endpoints)
        changes = []
        for endpoint in home.endpoints:
            own = self._endpoints[endpoint][1]
            changes += [Match(pods, endpoint, False) for pods in self._deselect(endpoint, own, left)]
            changes += [Match(pods, endpoint, True) for pods in self._select(endpoint, own, entered)]
        return changes

    def _scopes_matching(self, name: str, labels: Mapping[str, str]) -> dict[str, _Scope]:
        found = {name: self._scopes[name]} if name in self._scopes else {}
        for key in self._scopes_by_need.candidates(labels):
            selector = self._scopes[key].selector
            if selector is not None and selector.matches(labels):
                found[key] = self._scopes[key]
        return found

    def _scope_of(self, pods: Pods) -> _Scope:
        key = _scope_key(pods)
        if key not in self._scopes:
            scope = self._scopes[key] = self._new_scope(key, pods.namespace)
            for name in scope.namespaces:
                self._namespaces[name].scopes[key] = scope
                scope.size += len(self._namespaces[name].endpoints)
        return self._scopes[key]

    def _new_scope(self, key: str, namespace: str | Selector) -> _Scope:
        if isinstance(namespace, str):
            return _Scope(None, {namespace} & self._namespaces.keys())
        self._scopes_by_need.add(key, namespace)
        narrowed = self._namespaces_by_label.narrowed(namespace)
        names = self._namespaces if narrowed is None else (name for shelf in narrowed for name in shelf)
        return _Scope(namespace, {name for name in names if namespace.matches(self._namespaces[name].labels)})

    def _drop_scope(self, key: str, scope: _Scope) -> None:
        for name in scope.namespaces:
            del self._namespaces[name].scopes[key]
        if scope.selector is not None:
            self._scopes_by_need.discard(key, scope.selector)
        del self._scopes[key]


def _scope_key(pods: Pods) -> str:
    """A namespace's name, or a selector in brackets, which no name has."""
    return pods.namespace if isinstance(pods.namespace, str) else f"[{pods.namespace}]"
