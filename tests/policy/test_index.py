"""The index says what looking at everything would say, and looks at little."""

from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from policy.index import Index, Match
from policy.model import EndpointId, Pods, namespace_labels
from policy.selectors import EVERYTHING, Operator, Requirement, Selector, one_of, select

_KEYS, _VALUES, _NAMES = st.sampled_from("abc"), st.sampled_from("123"), st.sampled_from(["x", "y", "z"])
_LABELS = st.dictionaries(_KEYS, _VALUES)
_SELECTORS = st.lists(
    st.builds(
        lambda key, operator, values: Requirement(key, operator, tuple(sorted(values))),
        st.one_of(_KEYS, st.just("kubernetes.io/metadata.name")),
        st.sampled_from(Operator),
        st.sets(st.one_of(_VALUES, _NAMES), min_size=1, max_size=2),
    ),
    max_size=2,
).map(select)
_PODS = st.builds(Pods, st.one_of(_NAMES, _SELECTORS), _SELECTORS)
_IDS = st.sampled_from([EndpointId(f"e{number}") for number in range(6)])


class IndexAgreesWithBruteForce(RuleBasedStateMachine):
    """Any way of updates; the answer by looking at everything; the reported changes lead from one to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.endpoints: dict[EndpointId, tuple[str, Mapping[str, str]]] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.watched: dict[Pods, set[EndpointId]] = {}
        """Kept up to date from the reported changes alone."""

    @rule(endpoint=_IDS, namespace=_NAMES, labels=_LABELS)
    def admit(self, endpoint: EndpointId, namespace: str, labels: Mapping[str, str]) -> None:
        if endpoint in self.endpoints:
            self.expel(endpoint)
        for pods in self.index.admit(endpoint, namespace, labels):
            self.watched[pods].add(endpoint)
        self.endpoints[endpoint] = namespace, labels

    @rule(endpoint=_IDS)
    def expel(self, endpoint: EndpointId) -> None:
        if endpoint in self.endpoints:
            for pods in self.index.expel(endpoint):
                self.watched[pods].remove(endpoint)
            del self.endpoints[endpoint]

    @rule(namespace=_NAMES, labels=st.one_of(st.none(), _LABELS))
    def relabel(self, namespace: str, labels: Mapping[str, str] | None) -> None:
        for match in self.index.relabel(namespace, labels):
            (self.watched[match.pods].add if match.selected else self.watched[match.pods].remove)(match.endpoint)
        if labels is None:
            self.namespaces.pop(namespace, None)
        else:
            self.namespaces[namespace] = labels

    @rule(pods=_PODS)
    def watch(self, pods: Pods) -> None:
        self.watched[pods] = set(self.index.watch(pods))

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.watched:
            pods = data.draw(st.sampled_from(sorted(self.watched, key=lambda one: one.text)))
            assert set(self.index.forget(pods)) == self.watched.pop(pods)

    @invariant()
    def what_is_watched_is_what_matches(self) -> None:
        for pods, selected in self.watched.items():
            assert selected == {
                one for one, (namespace, own) in self.endpoints.items() if self.matches(pods, namespace, own)
            }
            assert selected == self.index.watch(pods)

    def matches(self, pods: Pods, namespace: str, labels: Mapping[str, str]) -> bool:
        if isinstance(pods.namespace, str):
            return pods.namespace == namespace and pods.selector.matches(labels)
        seen = namespace_labels(namespace, self.namespaces.get(namespace, {}))
        return pods.namespace.matches(seen) and pods.selector.matches(labels)


TestIndex = IndexAgreesWithBruteForce.TestCase


class Counted(dict[str, str]):
    """Labels that count how often a selector looks at them."""

    looks = 0

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        Counted.looks += 1
        return super().get(key, default)


def _looks() -> int:
    looks, Counted.looks = Counted.looks, 0
    return looks


APP_7 = select([one_of("app", "a7")])


def test_a_selector_that_needs_a_label_looks_only_at_endpoints_that_have_it() -> None:
    index = Index()
    for number in range(1000):
        index.admit(EndpointId(f"e{number}"), f"n{number % 10}", Counted(app=f"a{number % 100}"))
    _looks()
    assert len(index.watch(Pods(EVERYTHING, APP_7))) == 10
    assert _looks() == 10


def test_a_selector_for_one_namespace_looks_only_there() -> None:
    index = Index()
    for number in range(1000):
        index.admit(EndpointId(f"e{number}"), f"n{number % 100}", Counted(app=f"a{number % 2}"))
    _looks()
    assert len(index.watch(Pods("n1", select([one_of("app", "a1")])))) == 10
    assert _looks() == 10


def test_a_selector_that_needs_two_labels_looks_for_the_rarer_one() -> None:
    index = Index()
    for number in range(1000):
        index.admit(EndpointId(f"e{number}"), "n1", Counted(app="a1", rare=f"r{number % 100}"))
    _looks()
    both = select([one_of("app", "a1"), one_of("rare", "r7")])
    assert len(index.watch(Pods(EVERYTHING, both))) == 10
    assert _looks() == 10 * 2


def test_an_endpoint_looks_only_at_selectors_that_need_its_labels() -> None:
    index = Index()
    for number in range(1000):
        index.watch(Pods("n1", select([one_of("app", f"a{number}")])))
        index.watch(Pods(select([one_of("team", f"t{number}")]), EVERYTHING))
    _looks()
    assert [pods.text for pods in index.admit(EndpointId("e"), "n1", Counted(app="a7"))] == ["n1/app=a7"]
    assert _looks() == 1


def test_an_endpoint_arrives_before_its_namespace() -> None:
    index, everywhere = Index(), Pods(select([one_of("team", "a")]), EVERYTHING)
    by_name = Pods(select([one_of("kubernetes.io/metadata.name", "shop")]), EVERYTHING)
    index.watch(everywhere)
    index.watch(by_name)
    endpoint = EndpointId("shop/web")
    assert index.admit(endpoint, "shop", {}) == [by_name]
    assert index.relabel("shop", {"team": "a"}) == [Match(everywhere, endpoint, True)]
    assert index.relabel("shop", {"team": "a"}) == []
    assert index.relabel("shop", None) == [Match(everywhere, endpoint, False)]


def test_what_is_gone_leaves_nothing_behind() -> None:
    index = Index()
    pods = [Pods("shop", APP_7), Pods(select([one_of("team", "a")]), EVERYTHING), Pods(EVERYTHING, Selector("{}", ()))]
    for one in pods:
        index.watch(one)
    index.relabel("shop", {"team": "a"})
    index.admit(EndpointId("shop/web"), "shop", {"app": "a7"})
    for one in pods:
        index.forget(one)
    index.expel(EndpointId("shop/web"))
    index.relabel("shop", None)
    fresh = Index()
    assert [len(vars(index)[name]) for name in ("_endpoints", "_namespaces", "_scopes", "_selected")] == [0, 0, 0, 0]
    for name in ("_endpoints_by_label", "_namespaces_by_label", "_scopes_by_need"):
        assert vars(vars(index)[name]) == vars(vars(fresh)[name])
