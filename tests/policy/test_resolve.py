"""Which policies a local pod has, and which pods share a group."""

from policy.model import Pods, PolicyKey
from policy.resolve import Resolver, group_of
from policy.selectors import EVERYTHING, one_of, select
from tests.policy.cluster import pod

WEB, API = pod("shop/web", labels={"app": "web"}), pod("shop/api", labels={"app": "api"})
A, B = PolicyKey("shop/a"), PolicyKey("shop/b")
ALL, ONLY_WEB = Pods("shop", EVERYTHING), Pods("shop", select([one_of("app", "web")]))
TEAM_A = Pods(select([one_of("team", "a")]), EVERYTHING)


def _resolver() -> Resolver:
    resolver = Resolver()
    resolver.admit(WEB)
    resolver.admit(API)
    resolver.take_touched()
    return resolver


def test_policies_come_in_the_order_of_their_keys_whatever_came_first() -> None:
    resolver = _resolver()
    resolver.set_subject(B, ALL)
    resolver.set_subject(A, ONLY_WEB)
    assert resolver.policies_of(WEB.id) == (A, B)
    assert resolver.policies_of(API.id) == (B,)


def test_an_endpoint_finds_the_policies_that_are_there_already() -> None:
    resolver = Resolver()
    resolver.set_subject(A, ALL)
    resolver.set_subject(B, ALL)
    resolver.admit(WEB)
    assert resolver.policies_of(WEB.id) == (A, B)


def test_a_policy_that_selects_others_now_touches_both() -> None:
    resolver = _resolver()
    resolver.set_subject(A, ALL)
    resolver.take_touched()
    resolver.set_subject(A, ONLY_WEB)
    assert resolver.take_touched() == {WEB.id, API.id}
    assert (resolver.policies_of(WEB.id), resolver.policies_of(API.id)) == ((A,), ())


def test_a_policy_that_selects_the_same_touches_nobody() -> None:
    resolver = _resolver()
    resolver.set_subject(A, ALL)
    resolver.take_touched()
    resolver.set_subject(A, Pods("shop", EVERYTHING))
    assert resolver.take_touched() == set()


def test_one_of_two_policies_with_one_subject_goes() -> None:
    resolver = _resolver()
    resolver.set_subject(A, ALL)
    resolver.set_subject(B, ALL)
    resolver.drop_subject(A)
    assert resolver.policies_of(WEB.id) == (B,)


def test_a_namespace_that_changes_touches_whom_it_moves() -> None:
    resolver = _resolver()
    resolver.set_subject(A, TEAM_A)
    resolver.relabel("shop", {"team": "a"})
    assert resolver.take_touched() == {WEB.id, API.id}
    assert resolver.policies_of(WEB.id) == (A,)


def test_an_endpoint_that_is_gone_has_no_list() -> None:
    resolver = _resolver()
    resolver.expel(WEB.id)
    assert resolver.policies_of(WEB.id) is None
    assert resolver.take_touched() == {WEB.id}


def test_a_group_is_its_list() -> None:
    assert group_of((A, B)) == group_of((A, B))
    assert len({group_of(()), group_of((A,)), group_of((B,)), group_of((A, B)), group_of((B, A))}) == 5
