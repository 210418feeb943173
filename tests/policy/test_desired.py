"""Desired state counts members and tells net changes, in the order in which they must be applied."""

from kernel.sets import Member, SetName, SetSpec, SetType
from kernel.tables import ACCEPT, DROP, Chain, ChainName, Family, Rule, TableName
from policy import names
from policy.desired import Changes, Desired

KEY = (Family.IPV4, TableName.MANGLE)
A, B = SetName("tt4-a"), SetName("tt4-z")
ONE, TWO = Member("10.0.0.1"), Member("10.0.0.2")
CHAIN = ChainName("TORTIE-X")
ALLOWS, DROPS = Chain(CHAIN, (Rule((), ACCEPT),)), Chain(CHAIN, (Rule((), DROP),))


def _spec(name: SetName) -> SetSpec:
    return SetSpec(name, SetType.ADDRESSES, Family.IPV4)


def _desired(*members: Member) -> Desired:
    desired = Desired()
    desired.make_set(_spec(A))
    for member in members:
        desired.add(A, member)
    desired.put_chain(KEY, ALLOWS)
    desired.put_hook(KEY, "FORWARD", ALLOWS.rules)
    desired.take_changes()
    return desired


def test_the_first_changes_are_everything() -> None:
    desired = Desired()
    desired.make_set(_spec(A))
    desired.add(A, ONE)
    desired.put_chain(KEY, ALLOWS)
    desired.put_hook(KEY, "FORWARD", ALLOWS.rules)
    expected = Changes((A,), {}, {KEY: frozenset({CHAIN})}, {KEY: frozenset({"FORWARD"})})
    assert desired.take_changes() == expected
    assert not desired.take_changes()


def test_a_member_stays_until_the_last_who_wants_it_has_gone() -> None:
    desired = _desired(ONE)
    desired.add(A, ONE)
    desired.discard(A, ONE)
    assert desired.sets[A].members == {ONE}
    assert not desired.take_changes()
    desired.discard(A, ONE)
    assert desired.take_changes().removed == {A: {ONE}}


def test_what_is_as_it_was_is_not_told() -> None:
    desired = _desired(ONE)
    desired.discard(A, ONE)
    desired.add(A, TWO)
    desired.add(A, ONE)
    desired.discard(A, TWO)
    desired.put_chain(KEY, DROPS)
    desired.put_chain(KEY, ALLOWS)
    desired.put_hook(KEY, "FORWARD", DROPS.rules)
    desired.put_hook(KEY, "FORWARD", ALLOWS.rules)
    desired.make_set(_spec(B))
    desired.drop_set(B)
    assert not desired.take_changes()


def test_a_set_made_again_tells_the_members_that_differ() -> None:
    desired = _desired(ONE)
    desired.discard(A, ONE)
    desired.add(A, TWO)
    desired.drop_set(A)
    desired.make_set(_spec(A))
    desired.add(A, TWO)
    assert desired.take_changes() == Changes(added={A: frozenset({TWO})}, removed={A: frozenset({ONE})})


def test_a_set_that_goes_is_told_without_its_members() -> None:
    desired = _desired(ONE)
    desired.discard(A, ONE)
    desired.drop_set(A)
    assert desired.take_changes() == Changes(gone_sets=(A,))


def test_chains_and_hooks_that_change_are_told() -> None:
    desired = _desired()
    desired.put_chain(KEY, DROPS)
    desired.put_hook(KEY, "FORWARD", DROPS.rules)
    changes = desired.take_changes()
    assert changes.chains == {KEY: {CHAIN}}
    assert changes.hooks == {KEY: {"FORWARD"}}
    desired.drop_chain(KEY, CHAIN)
    assert desired.take_changes().chains == {KEY: {CHAIN}}
    assert CHAIN not in desired.tables[KEY].chains


def test_local_comes_last_and_goes_first() -> None:
    desired, local = Desired(), names.local(Family.IPV4)
    for name in (local, B, A):
        desired.make_set(_spec(name))
    assert desired.take_changes().new_sets == (A, B, local)
    for name in (local, B, A):
        desired.add(name, ONE)
    assert list(desired.take_changes().added) == [A, B, local]
    for name in (A, local, B):
        desired.discard(name, ONE)
    assert list(desired.take_changes().removed) == [local, A, B]


def test_equal_sets_have_equal_members() -> None:
    assert _desired(ONE).sets[A] == _desired(ONE).sets[A]
    assert _desired(ONE).sets[A] != _desired(TWO).sets[A]
    assert _desired(ONE).sets[A] != "tt4-a"
    assert repr(_desired(TWO, ONE).sets[A]) == "DesiredSet(tt4-a: 10.0.0.1, 10.0.0.2)"
