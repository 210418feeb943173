"""Which blocks are looked at: each open one, in order, and none that was looked at in vain since it changed."""

from ipam.room import Room


def names(room: Room, now: float = 0, pool: str = "p") -> list[str]:
    return list(room.names(pool, now))


def test_blocks_are_looked_at_by_name_each_in_its_pool() -> None:
    room = Room()
    for name, pool in (("b", "p"), ("a", "p"), ("c", "q"), ("a", "p")):
        room.reopen(name, pool)
    assert (names(room), names(room, pool="q"), names(room, pool="none")) == (["a", "b"], ["c"], [])


def test_a_closed_block_is_looked_at_again_when_it_has_changed() -> None:
    room = Room()
    room.reopen("a", "p")
    room.close("a", None)
    assert names(room, 1e9) == []
    room.reopen("a", "p")
    assert names(room) == ["a"]


def test_or_when_its_time_has_come() -> None:
    room = Room()
    for name, until in (("a", 30.0), ("b", 10.0)):
        room.reopen(name, "p")
        room.close(name, until)
    assert (names(room, 9), names(room, 10), names(room, 30)) == ([], ["b"], ["a", "b"])


def test_or_when_the_rules_have() -> None:
    room = Room()
    for name in ("a", "b"):
        room.reopen(name, "p")
        room.close(name, 50.0)
    room.reopen_all()
    assert names(room) == ["a", "b"]


def test_a_block_that_is_gone_never_comes_back_by_itself() -> None:
    room = Room()
    room.reopen("a", "p")
    room.close("a", 10.0)
    room.drop("a")
    room.reopen_all()
    assert names(room, 20) == []


def test_blocks_may_be_closed_while_they_are_looked_at() -> None:
    room = Room()
    for name in "abcd":
        room.reopen(name, "p")
    seen = []
    for name in room.names("p", 0):
        seen.append(name)
        room.close(name, None)
    assert (seen, names(room)) == (list("abcd"), [])


def test_a_block_that_another_pool_made_anew_is_found_there_alone() -> None:
    room = Room()
    room.reopen("a", "p")
    room.reopen("a", "q")
    assert (names(room), names(room, pool="q")) == ([], ["a"])
