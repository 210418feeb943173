"""Desired state is a function of content (invariant 5), changes are net and complete, and cost what they touch."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kernel.sets import Member, SetName
from kernel.tables import Family, TableName
from policy import names
from policy.compiler import Compiler
from policy.desired import Changes
from policy.model import Address, Direction, Endpoint, EndpointId, Policy, PolicyKey
from tests.policy import random_clusters
from tests.policy.cluster import addresses, pod, policy
from tests.policy.shadow import Shadow

DENY = "{podSelector: {}, policyTypes: [Ingress, Egress]}"


BUCKETS = ("tt4-fb-", "tt4-tb-", "tt6-fb-", "tt6-tb-")
NODES = st.sampled_from(random_clusters.NODES)
POLICIES = st.integers(0, 3).flatmap(lambda number: random_clusters.policies(f"p{number}"))
ENDPOINTS = st.integers(1, 5).flatmap(lambda number: random_clusters.endpoints(number, shared_addresses=True))


class PathsToTheSameContent(RuleBasedStateMachine):
    """Any way of updates, and a fresh compiler that is told the content at once, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.compiler = Compiler("n1")
        self.shadow = Shadow()
        self.endpoints: dict[EndpointId, Endpoint] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.policies: dict[PolicyKey, Policy] = {}
        self.nodes: dict[str, tuple[Address, ...]] = {}

    @rule(endpoint=ENDPOINTS)
    def set_endpoint(self, endpoint: Endpoint) -> None:
        self.endpoints[endpoint.id] = endpoint
        self.compiler.set_endpoint(endpoint)

    @rule(number=st.integers(1, 5))
    def remove_endpoint(self, number: int) -> None:
        self.endpoints.pop(EndpointId(f"e{number}"), None)
        self.compiler.remove_endpoint(EndpointId(f"e{number}"))

    @rule(number=st.integers(1, 5))
    def remove_endpoint_and_keep_its_group(self, number: int) -> None:
        self.endpoints.pop(EndpointId(f"e{number}"), None)
        self.compiler.remove_endpoint(EndpointId(f"e{number}"), keep_group=True)

    @rule()
    def forget_some_idle_groups(self) -> None:
        self.compiler.forget_idle_groups()

    @rule(name=random_clusters.names, labels=random_clusters.namespace_labels)
    def set_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        self.namespaces[name] = labels
        self.compiler.set_namespace(name, labels)

    @rule(name=random_clusters.names)
    def remove_namespace(self, name: str) -> None:
        self.namespaces.pop(name, None)
        self.compiler.remove_namespace(name)

    @rule(policy=POLICIES)
    def set_policy(self, policy: Policy) -> None:
        self.policies[policy.key] = policy
        self.compiler.set_policy(policy)

    @rule(number=st.integers(0, 3))
    def remove_policy(self, number: int) -> None:
        self.policies.pop(PolicyKey(f"p{number}"), None)
        self.compiler.remove_policy(PolicyKey(f"p{number}"))

    @rule(name=NODES, count=st.integers(0, 2))
    def set_node(self, name: str, count: int) -> None:
        self.nodes[name] = random_clusters.NODE_ADDRESSES["n1"][:count]
        self.compiler.set_node(name, self.nodes[name])

    @rule(name=NODES)
    def remove_node(self, name: str) -> None:
        self.nodes.pop(name, None)
        self.compiler.remove_node(name)

    @rule(first=st.integers(100, 110), count=st.integers(1, 30), present=st.booleans())
    def crowd(self, first: int, count: int, present: bool) -> None:
        """Pods of which each is its own group, so that the dispatch gets a second level, and loses it."""
        for number in range(first, first + count):
            one = pod(f"x/e{number}", f"10.0.1.{number}", {"own": f"n{number}"}, interface=f"tort{number}")
            own = policy(f"{{podSelector: {{matchLabels: {{own: n{number}}}}}}}", f"q{number}", "x")
            if present:
                self.endpoints[one.id], self.policies[own.key] = one, own
                self.compiler.set_endpoint(one)
                self.compiler.set_policy(own)
            else:
                self.endpoints.pop(one.id, None)
                self.policies.pop(own.key, None)
                self.compiler.remove_policy(own.key)
                self.compiler.remove_endpoint(one.id)

    @rule()
    def take(self) -> None:
        for _ in self.shadow.steps(self.compiler.take_changes(), self.compiler.desired):
            pass
        assert self.shadow.agrees_with(self.compiler.desired)

    @rule()
    def say_it_again(self) -> None:
        self.take()
        _tell(self.compiler, self)
        assert not self.compiler.take_changes()

    @rule()
    def desired_is_a_function_of_content(self) -> None:
        self.compiler.forget_idle_groups()
        self.compiler.forget_idle_groups()
        fresh = Compiler("n1")
        _tell(fresh, self)
        assert dict(fresh.desired.sets) == dict(self.compiler.desired.sets)
        assert dict(fresh.desired.tables) == dict(self.compiler.desired.tables)
        assert fresh.groups == self.compiler.groups

    @invariant()
    def every_group_that_is_needed_is_there(self) -> None:
        fresh = Compiler("n1")
        _tell(fresh, self)
        assert fresh.groups.items() <= self.compiler.groups.items()
        for name, held in fresh.desired.sets.items():
            if not name.startswith(BUCKETS):
                assert held == self.compiler.desired.sets[name]

    def teardown(self) -> None:
        self.desired_is_a_function_of_content()


def _tell(compiler: Compiler, content: PathsToTheSameContent) -> None:
    for policy_ in reversed(content.policies.values()):
        compiler.set_policy(policy_)
    for name, found in content.nodes.items():
        compiler.set_node(name, found)
    for endpoint in reversed(content.endpoints.values()):
        compiler.set_endpoint(replace(endpoint, labels=dict(endpoint.labels)))
    for name, labels in content.namespaces.items():
        compiler.set_namespace(name, dict(labels))


TestPaths = PathsToTheSameContent.TestCase
TestPaths.settings = settings(stateful_step_count=30)


WEB = pod("shop/web", ["10.0.0.1", "fd00::1"], {"app": "web"})
API = pod("shop/api", ["10.0.0.2", "fd00::2"], {"app": "web"})
ALLOW_WEB = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]}"


def _compiler(*endpoints: Endpoint) -> Compiler:
    compiler = Compiler("n1")
    for endpoint in endpoints:
        compiler.set_endpoint(endpoint)
    compiler.set_policy(policy(ALLOW_WEB))
    compiler.take_changes()
    return compiler


def _kinds(changes: Mapping[SetName, frozenset[Member]]) -> list[str]:
    """Sets by what they are: without digests."""
    return ["-".join(name.split("-")[:2]) if name.split("-")[1] in ("local", "pods") else name[:5] for name in changes]


def test_a_new_pod_of_a_known_group_is_four_members_a_family_and_its_peer_sets() -> None:
    compiler = _compiler(WEB)
    compiler.set_endpoint(API)
    changes = compiler.take_changes()
    assert changes == Changes(added=changes.added)
    assert _kinds(changes.added) == [
        *("tt4-f", "tt4-p", "tt4-pods", "tt4-t"),
        *("tt6-f", "tt6-p", "tt6-pods", "tt6-t"),
        *("tt4-local", "tt6-local"),
    ]
    assert all(len(members) == 1 for members in changes.added.values())


def test_above_16_groups_two_more_members_a_family() -> None:
    compiler = Compiler("n1")
    for number in range(17):
        compiler.set_policy(policy(f"{{podSelector: {{matchLabels: {{own: n{number}}}}}}}", f"q{number}"))
        compiler.set_endpoint(pod(f"shop/e{number}", f"10.0.1.{number}", {"own": f"n{number}"}))
    compiler.take_changes()
    compiler.set_endpoint(pod("shop/more", "10.0.2.1", {"own": "n3"}))
    changes = compiler.take_changes()
    assert changes == Changes(added=changes.added)
    assert [name.split("-")[1] for name in changes.added] == ["f", "fb", "pods", "t", "tb", "local"]


def test_a_pod_that_goes_loses_its_members_local_first_and_touches_no_rule() -> None:
    compiler = _compiler(WEB, API)
    compiler.remove_endpoint(API.id)
    changes = compiler.take_changes()
    assert changes == Changes(removed=changes.removed)
    assert list(changes.removed)[:2] == [names.local(Family.IPV4), names.local(Family.IPV6)]


def test_the_last_pod_of_a_group_that_is_kept_and_the_next_of_its_kind_touch_no_rule_and_make_no_set() -> None:
    compiler = _compiler(WEB)
    group = dict(compiler.groups)
    compiler.remove_endpoint(WEB.id, keep_group=True)
    changes = compiler.take_changes()
    assert changes == Changes(removed=changes.removed)
    assert compiler.groups == group
    compiler.set_endpoint(API)
    changes = compiler.take_changes()
    assert changes == Changes(added=changes.added)


def test_a_kept_group_goes_when_it_was_idle_at_two_calls_in_a_row() -> None:
    compiler = _compiler(WEB)
    compiler.remove_endpoint(WEB.id, keep_group=True)
    compiler.forget_idle_groups()
    compiler.take_changes()
    assert compiler.groups
    compiler.set_endpoint(API)
    assert compiler.groups
    compiler.remove_endpoint(API.id, keep_group=True)
    compiler.forget_idle_groups()
    assert compiler.groups, "it had a pod since the last call"
    compiler.forget_idle_groups()
    assert not compiler.groups
    assert compiler.take_changes().gone_sets


def test_a_group_that_its_pods_left_for_another_is_not_kept() -> None:
    compiler = _compiler(WEB)
    compiler.set_policy(policy(DENY, "deny"))
    compiler.take_changes()
    compiler.remove_endpoint(WEB.id, keep_group=True)
    assert list(compiler.groups.values()) == [("shop/deny", "shop/p")]


def test_a_pod_removed_twice_keeps_its_group_by_the_last_word() -> None:
    compiler = _compiler(WEB)
    compiler.remove_endpoint(WEB.id, keep_group=True)
    compiler.set_endpoint(WEB)
    compiler.remove_endpoint(WEB.id)
    assert not compiler.groups


def test_a_remote_pod_touches_peer_sets_alone() -> None:
    compiler = _compiler(WEB)
    compiler.set_endpoint(pod("shop/far", ["10.0.1.1"], {"app": "web"}, node="n2", ports={"http": 8080}))
    changes = compiler.take_changes()
    assert changes == Changes(added=changes.added)
    assert sorted(next(iter(members)) for members in changes.added.values()) == ["10.0.1.1", "10.0.1.1,tcp:8080"]


@pytest.mark.parametrize("interface", [pytest.param("", id="unknown"), pytest.param("cali1", id="not ours")])
def test_a_pod_whose_interface_is_not_known_or_not_ours_is_a_peer_and_not_enforced(interface: str) -> None:
    compiler = _compiler(WEB)
    compiler.set_endpoint(replace(API, interface=interface))
    assert _kinds(compiler.take_changes().added) == ["tt4-p", "tt6-p"]


def test_a_policy_that_selects_no_local_pod_costs_nothing() -> None:
    compiler = _compiler(WEB)
    compiler.set_policy(policy(ALLOW_WEB, namespace="elsewhere"))
    assert not compiler.take_changes()


def test_a_policy_that_says_something_else_moves_its_pods_to_new_groups_at_once() -> None:
    compiler = _compiler(WEB, API)
    (before,) = compiler.groups
    compiler.set_policy(policy("{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"))
    (after,) = compiler.groups
    changes = compiler.take_changes()
    assert [name[:5] for name in changes.new_sets] == ["tt4-f", "tt4-t", "tt6-f", "tt6-t"]
    expected = {names.group_chain(direction, group) for direction in Direction for group in (before, after)}
    expected |= {names.dispatch(direction).chain for direction in Direction}
    assert changes.chains == {(family, TableName.MANGLE): expected for family in Family}
    assert not changes.added
    assert not changes.removed
    kinds = ["f", "n", "p", "t"]
    assert [name[:5] for name in changes.gone_sets] == [f"tt{family}-{kind}" for family in (4, 6) for kind in kinds]


def test_a_policy_that_selects_others_now_rewrites_no_chain_of_a_group_that_stays() -> None:
    compiler = _compiler(WEB, API)
    compiler.set_policy(policy(ALLOW_WEB.replace("{podSelector: {}", "{podSelector: {matchLabels: {app: web}}", 1)))
    assert not compiler.take_changes()


def test_a_pod_that_changes_group_is_added_before_it_is_removed() -> None:
    compiler = _compiler(WEB, API)
    compiler.set_policy(policy("{podSelector: {matchLabels: {own: yes}}}".replace("yes", '"yes"'), "q"))
    compiler.take_changes()
    compiler.set_endpoint(replace(API, labels={"app": "web", "own": "yes"}))
    changes = compiler.take_changes()
    assert [name[:5] for name in changes.new_sets] == ["tt4-f", "tt4-t", "tt6-f", "tt6-t"]
    assert not changes.added
    assert [name[:5] for name in changes.removed] == ["tt4-f", "tt4-t", "tt6-f", "tt6-t"]
    assert not changes.gone_sets


def test_groups_are_told_by_their_policies() -> None:
    compiler = _compiler(WEB)
    compiler.set_policy(policy(DENY, "deny"))
    assert list(compiler.groups.values()) == [("shop/deny", "shop/p")]


def test_an_address_that_two_pods_hold_stays_until_both_have_gone() -> None:
    heir = replace(WEB, id=EndpointId("shop/heir"), name="heir")
    compiler = _compiler(WEB, heir)
    compiler.remove_endpoint(WEB.id)
    assert not compiler.take_changes()
    compiler.remove_endpoint(heir.id)
    assert compiler.take_changes().removed


def test_removing_what_is_not_there_changes_nothing() -> None:
    compiler = _compiler(WEB)
    compiler.remove_endpoint(API.id)
    compiler.remove_policy(PolicyKey("shop/gone"))
    compiler.remove_namespace("gone")
    compiler.remove_node("gone")
    assert not compiler.take_changes()


class Untouchable(dict[str, str]):
    """Labels that nobody may look at."""

    def get(self, key: str, default: object = None) -> str:
        raise AssertionError(f"looked at {key}")


def test_a_selector_that_no_policy_needs_any_more_is_not_followed() -> None:
    compiler = _compiler(WEB)
    compiler.remove_policy(PolicyKey("shop/p"))
    compiler.take_changes()
    compiler.set_endpoint(replace(API, labels=Untouchable(app="web"), node="n2"))
    assert not compiler.take_changes()


def test_nodes_addresses_are_in_the_set_of_nodes() -> None:
    compiler = Compiler("n1")
    compiler.set_node("n1", addresses("192.0.2.1", "2001:db8::1"))
    compiler.set_node("n2", addresses("192.0.2.1"))
    compiler.remove_node("n1")
    assert compiler.desired.sets[names.nodes(Family.IPV4)].members == {"192.0.2.1"}
    assert compiler.desired.sets[names.nodes(Family.IPV6)].members == set()


def test_a_compiler_that_was_told_nothing_lets_nothing_through() -> None:
    tables = Compiler("n1").desired.tables
    for family in Family:
        chains = tables[family, TableName.MANGLE].chains
        for direction in Direction:
            assert chains[names.dispatch(direction).chain].rules[-1].target == ("-j", "DROP")
