"""Which policies a local pod has, and which pods share a group."""

from policy.model import EndpointId, PolicyKey
from policy.resolve import Resolver, group_of
from tests.policy.cluster import pod, policy

WEB, API = pod("shop/web", labels={"app": "web"}), pod("shop/api", labels={"app": "api"})
A, B = policy("{podSelector: {}}", "a"), policy("{podSelector: {}}", "b")
A_FOR_WEB = policy("{podSelector: {matchLabels: {app: web}}}", "a")
A_SAYS_MORE = policy("{podSelector: {}, ingress: [{}]}", "a")


def _resolver() -> Resolver:
    resolver = Resolver()
    resolver.admit(WEB)
    resolver.admit(API)
    resolver.take_touched()
    return resolver


def _keys(resolver: Resolver, endpoint: EndpointId) -> tuple[PolicyKey, ...]:
    group = resolver.group_of(endpoint)
    assert group is not None
    return group.keys


def test_policies_come_in_the_order_of_their_keys_whatever_came_first() -> None:
    resolver = _resolver()
    resolver.set_policy(B)
    resolver.set_policy(A_FOR_WEB)
    assert _keys(resolver, WEB.id) == ("shop/a", "shop/b")
    assert _keys(resolver, API.id) == ("shop/b",)


def test_an_endpoint_finds_the_policies_that_are_there_already() -> None:
    resolver = Resolver()
    resolver.set_policy(A)
    resolver.set_policy(B)
    resolver.admit(WEB)
    assert _keys(resolver, WEB.id) == ("shop/a", "shop/b")


def test_a_policy_that_selects_others_now_touches_both() -> None:
    resolver = _resolver()
    resolver.set_policy(A)
    resolver.take_touched()
    resolver.set_policy(A_FOR_WEB)
    assert resolver.take_touched() == {WEB.id, API.id}
    assert _keys(resolver, API.id) == ()


def test_a_policy_that_says_something_else_makes_another_group_of_the_same_policies() -> None:
    resolver = _resolver()
    resolver.set_policy(A)
    before = resolver.group_of(WEB.id)
    resolver.take_touched()
    resolver.set_policy(A_SAYS_MORE)
    after = resolver.group_of(WEB.id)
    assert resolver.take_touched() == {WEB.id, API.id}
    assert before is not None
    assert after is not None
    assert before.keys == after.keys
    assert before != after


def test_one_of_two_policies_with_one_subject_goes() -> None:
    resolver = _resolver()
    resolver.set_policy(A)
    resolver.set_policy(B)
    resolver.drop_policy(A.key)
    assert _keys(resolver, WEB.id) == ("shop/b",)


def test_an_endpoint_that_is_gone_has_no_group() -> None:
    resolver = _resolver()
    resolver.expel(WEB.id)
    assert resolver.group_of(WEB.id) is None
    assert resolver.take_touched() == {WEB.id}


def test_a_group_is_its_policies_and_not_whom_they_select() -> None:
    assert group_of([A, B]) == group_of([B, A])
    assert group_of([A]) == group_of([A_FOR_WEB])
    assert len({group_of(some).id for some in ([], [A], [B], [A, B], [A_SAYS_MORE])}) == 5
