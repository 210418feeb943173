"""A block's algebra: pictures, laws, and that nothing but the right id frees an address."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.resources.ipblock import HISTORY, Past
from ipam.block import Among, Block, Owner, Range, new_block
from ipam.errors import BlockFull, Frozen

NOW = 1_000_000.0
COOLDOWN = 30.0
POD = Owner("net:c1:eth0", "node-1", "web", "shop")
ID = "00000000000000aa"


def block(picture: str, released_at: float = 0.0) -> Block:
    """`x` allocated, `r` released at `released_at` plus its place, `.` never used (only at the end)."""
    made = new_block(IPv4Network("10.0.0.0/29"), "pool", "node-1", "m1", NOW).made_ready()
    padded = picture.ljust(8, ".")
    for ordinal in range(len(padded.rstrip("."))):
        made, _ = made.assign(Owner(f"h{ordinal}", "node-1"), f"{ordinal:016x}", NOW, COOLDOWN)
    for ordinal, letter in enumerate(padded):
        if letter == "r":
            made = made.release(ordinal, f"{ordinal:016x}", released_at + ordinal)
    return made


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param("", "10.0.0.0", id="an empty block gives its first address"),
        pytest.param("xx", "10.0.0.2", id="then the next"),
        pytest.param("xrx", "10.0.0.3", id="what was never used goes before what was released"),
        pytest.param("xxxxxxx", "10.0.0.7", id="the last address is usable"),
        pytest.param("xxrxxrxx", "10.0.0.2", id="then what was released longest ago"),
    ],
)
def test_assign_chooses_what_rested_longest(picture: str, expected: str) -> None:
    _, held = block(picture).assign(POD, ID, NOW, COOLDOWN)
    assert held.address == IPv4Address(expected)


@pytest.mark.parametrize(
    ("released_at", "full"),
    [
        pytest.param(NOW - COOLDOWN - 2, False, id="cooled"),
        pytest.param(NOW - COOLDOWN - 2 + 0.001, True, id="a moment too early"),
        pytest.param(NOW, True, id="just released"),
    ],
)
def test_a_released_address_rests_for_the_cooldown(released_at: float, full: bool) -> None:
    found = block("xxrxxxxx", released_at)
    assert found.has_room(NOW, COOLDOWN) is not full
    assert not found.has_room(NOW, COOLDOWN, 1)
    if full:
        with pytest.raises(BlockFull, match=r"10\.0\.0\.0/29"):
            found.assign(POD, ID, NOW, COOLDOWN)
    else:
        assert found.assign(POD, ID, NOW, COOLDOWN)[1].ordinal == 2


def test_an_address_released_by_a_clock_ahead_counts_as_released_now() -> None:
    found = block("xxrxxxxx", NOW + 86_400)
    written = found.release(7, f"{7:016x}", NOW)
    assert written.has_room(NOW + COOLDOWN, COOLDOWN, 1)
    assert not written.has_room(NOW + COOLDOWN, COOLDOWN, 2)


def test_the_oldest_that_has_cooled_is_taken_even_behind_one_that_has_not() -> None:
    both = block("xxxrxrxx", NOW - 100)
    spec = msgspec.structs.replace(both.record.spec, released=((3, NOW), (5, NOW - 100)))
    found = Block(msgspec.structs.replace(both.record, spec=spec), both.network)
    assert found.assign(POD, ID, NOW, COOLDOWN)[1].ordinal == 5


@pytest.mark.parametrize("wrong", ["00000000000000ff", ""])
def test_release_with_another_id_changes_nothing(wrong: str) -> None:
    found, held = block("xx").assign(POD, ID, NOW, COOLDOWN)
    assert found.release(held.ordinal, wrong, NOW) is found


def test_adopting_makes_every_older_id_void() -> None:
    first, held = block("").assign(POD, ID, NOW, COOLDOWN)
    second, again = first.adopt(held.ordinal, POD, "00000000000000bb", NOW)
    assert again.address == held.address
    assert second.release(held.ordinal, ID, NOW) is second
    assert second.release(held.ordinal, again.id, NOW).empty


def test_a_block_is_idle_since_its_last_release_or_its_claim() -> None:
    assert block("").idle_since() == NOW
    assert block("r", NOW + 50).idle_since() == NOW + 50


def test_handles_and_ids_are_found() -> None:
    found, held = block("xx").assign(POD, ID, NOW, COOLDOWN)
    assert found.of_handle(POD.handle) == (held,)
    assert found.of_handle("net:c1:eth1") == ()
    assert found.of_id(ID) == held
    assert found.of_id("nothing") is None


def test_an_ipv6_block_gives_ipv6_addresses() -> None:
    made = new_block(ip_network("fd65::40/122"), "pool6", "node-1", "m1", NOW).made_ready()
    assert made.assign(POD, ID, NOW, COOLDOWN)[1].address == ip_address("fd65::40")


@given(st.text(alphabet="xr", max_size=8))
def test_release_undoes_assign_but_for_the_rest(picture: str) -> None:
    before = block(picture, NOW - 1000)
    if not before.has_room(NOW, COOLDOWN):
        return
    after, held = before.assign(POD, ID, NOW, COOLDOWN)
    undone = after.release(held.ordinal, ID, NOW)
    assert undone.record.spec.allocations == before.record.spec.allocations
    assert {n for n, _ in undone.record.spec.released} >= {n for n, _ in before.record.spec.released}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_every_path_keeps_the_record_consistent_and_no_address_twice(steps: list[tuple[bool, int]]) -> None:
    found = block("")
    for number, (assigning, ordinal) in enumerate(steps):
        now = NOW + number * 10
        if assigning:
            if found.has_room(now, COOLDOWN):
                found, _ = found.assign(Owner(f"h{number}", "node-1"), f"{number + 256:016x}", now, COOLDOWN)
        else:
            held = found.record.spec.allocations.get(str(ordinal))
            found = found.release(ordinal, held.id if held else ID, now)
        found.record.check()
        released = {n for n, _ in found.record.spec.released}
        taken = {int(text) for text in found.record.spec.allocations}
        assert not released & taken
        assert released | taken == set(range(found.record.spec.fresh))


def test_values_are_never_changed_in_place() -> None:
    before = block("xx")
    bytes_before = msgspec.json.encode(before.record)
    before.assign(POD, ID, NOW, COOLDOWN)
    before.release(0, f"{0:016x}", NOW)
    assert msgspec.json.encode(before.record) == bytes_before


def between(first: str, last: str, *avoid: str) -> Among:
    network = IPv4Network("10.0.0.0/29")
    return Among((Range(network, IPv4Address(first), IPv4Address(last), frozenset(map(IPv4Address, avoid))),))


@pytest.mark.parametrize(
    ("picture", "among", "expected"),
    [
        pytest.param("", between("10.0.0.3", "10.0.0.6"), "10.0.0.3", id="the first of a range that was never used"),
        pytest.param("", between("10.0.0.3", "10.0.0.6", "10.0.0.3"), "10.0.0.4", id="an address to be avoided"),
        pytest.param("xxxx", between("10.0.0.2", "10.0.0.6"), "10.0.0.4", id="those taken are passed over"),
        pytest.param("xrxxxxxx", between("10.0.0.0", "10.0.0.4"), "10.0.0.1", id="a cool one of the range"),
        pytest.param("xxxxxxxx", between("10.0.0.0", "10.0.0.4"), None, id="a range whose addresses are taken"),
        pytest.param("xxxxrrrr", between("10.0.0.0", "10.0.0.3"), None, id="free ones lie outside"),
    ],
)
def test_a_range_limits_what_is_given(picture: str, among: Among, expected: str | None) -> None:
    found = block(picture)
    assert found.has_room(NOW, COOLDOWN, 0, among) is (expected is not None)
    if expected is None:
        with pytest.raises(BlockFull):
            found.assign(POD, ID, NOW, COOLDOWN, among)
    else:
        assert found.assign(POD, ID, NOW, COOLDOWN, among)[1].address == IPv4Address(expected)


def test_a_single_address_needs_not_to_have_cooled() -> None:
    found = block("xxrxxxxx", NOW)
    assert found.assign(POD, ID, NOW, COOLDOWN, Among.only(IPv4Address("10.0.0.2")))[1].ordinal == 2


def test_addresses_that_were_passed_over_are_given_later_each_once() -> None:
    made, _ = block("").assign(POD, ID, NOW, COOLDOWN, Among.only(IPv4Address("10.0.0.5")))
    given = []
    for number in range(7):
        made, held = made.assign(Owner(f"h{number}", "node-1"), f"{number:016x}", NOW, COOLDOWN)
        made.record.check()
        given.append(held.ordinal)
    assert sorted(given) == [0, 1, 2, 3, 4, 6, 7]
    assert not made.has_room(NOW, COOLDOWN)


class TestReserved:
    @pytest.mark.parametrize(
        ("picture", "reserved", "expected"),
        [
            pytest.param("", {0, 1}, 2, id="fresh ones are passed over"),
            pytest.param("x", {1, 3}, 2, id="those between too"),
            pytest.param("xxrxrxxx", {2}, 4, id="and released ones"),
            pytest.param("xxxxxx", {6, 7}, None, id="nothing else is left"),
            pytest.param("xxxxxrxx", {5}, None, id="nor here"),
            pytest.param("xxrxx", {5, 6, 7}, 2, id="what is released before what is reserved"),
        ],
    )
    def test_a_reserved_address_is_not_given(self, picture: str, reserved: set[int], expected: int | None) -> None:
        found = block(picture)
        assert found.has_room(NOW, COOLDOWN, 0, None, reserved) is (expected is not None)
        if expected is None:
            with pytest.raises(BlockFull):
                found.assign(POD, ID, NOW, COOLDOWN, None, reserved)
        else:
            assert found.assign(POD, ID, NOW, COOLDOWN, None, reserved)[1].ordinal == expected

    def test_room_is_counted_without_them(self) -> None:
        found = block("xxr", NOW - 1000)
        assert found.has_room(NOW, COOLDOWN, 3, None, {3, 5})
        assert not found.has_room(NOW, COOLDOWN, 4, None, {3, 5})
        assert not found.has_room(NOW, COOLDOWN, 3, None, {2, 3, 5})

    def test_nor_is_it_given_to_who_asks_for_a_range(self) -> None:
        among = between("10.0.0.2", "10.0.0.4")
        made, held = block("").assign(POD, ID, NOW, COOLDOWN, among, {2, 4})
        assert held.ordinal == 3
        assert not made.has_room(NOW, COOLDOWN, 0, among, {2, 4})

    def test_who_asks_for_just_this_one_gets_it(self) -> None:
        _, held = block("x").assign(POD, ID, NOW, COOLDOWN, Among.only(IPv4Address("10.0.0.5")), {5})
        assert held.ordinal == 5

    def test_those_passed_over_are_given_when_the_reservation_is_gone(self) -> None:
        made, _ = block("").assign(POD, ID, NOW, COOLDOWN, None, {0, 1, 2})
        given = []
        for number in range(7):
            made, held = made.assign(Owner(f"h{number}", "node-1"), f"{number:016x}", NOW, COOLDOWN)
            made.record.check()
            given.append(held.ordinal)
        assert sorted(given) == [0, 1, 2, 4, 5, 6, 7]

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40), st.sets(st.integers(0, 7)))
    def test_whatever_happened_has_room_says_what_assign_does(
        self, steps: list[tuple[bool, int]], reserved: set[int]
    ) -> None:
        found = block("")
        for number, (assigning, ordinal) in enumerate(steps):
            now = NOW + number * 10
            room = found.has_room(now, COOLDOWN, 0, None, reserved)
            try:
                after, held = found.assign(POD, f"{number:016x}", now, COOLDOWN, None, reserved)
            except BlockFull:
                assert not room
                cools = found.cools_at(COOLDOWN, reserved)
                assert cools is None or cools > now
            else:
                assert room
                assert held.ordinal not in reserved
                found = after if assigning else found
            known = found.record.spec.allocations.get(str(ordinal))
            if not assigning and known is not None:
                found = found.release(ordinal, known.id, now)
            found.record.check()


def test_times_of_a_clock_that_went_ahead_count_as_now_from_when_they_are_seen() -> None:
    ahead = block("xxrrxxxx", NOW + 86_400)
    seen = ahead.not_ahead(NOW)
    assert not seen.has_room(NOW, COOLDOWN)
    assert seen.has_room(NOW + COOLDOWN, COOLDOWN, 1)
    assert block("xr", NOW - 5).not_ahead(NOW) == block("xr", NOW - 5)
    empty = new_block(IPv4Network("10.0.0.0/29"), "pool", "node-1", "m1", NOW + 500)
    assert empty.not_ahead(NOW).idle_since() == NOW


class TestHistory:
    def test_whoever_gave_up_an_address_is_remembered_from_when_to_when(self) -> None:
        made, held = block("x").assign(POD, ID, NOW, COOLDOWN)
        made = made.release(held.ordinal, ID, NOW + 60)
        assert made.record.spec.history == (Past(ordinal=1, namespace="shop", pod="web", since=NOW, until=NOW + 60),)

    def test_one_that_was_no_pods_is_remembered_by_its_handle_and_a_borrower_by_its_node(self) -> None:
        made, held = block("").assign(Owner("manual/db", "node-2"), ID, NOW, COOLDOWN)
        made = made.release(held.ordinal, ID, NOW + 60)
        expected = Past(ordinal=0, handle="manual/db", node="node-2", since=NOW, until=NOW + 60)
        assert made.record.spec.history == (expected,)

    def test_an_adoption_is_no_new_owner(self) -> None:
        made, held = block("").assign(POD, ID, NOW, COOLDOWN)
        made, again = made.adopt(held.ordinal, POD, "00000000000000bb", NOW + 40)
        assert made.record.spec.history == ()
        (past,) = made.release(again.ordinal, again.id, NOW + 60).record.spec.history
        assert (past.since, past.until) == (NOW, NOW + 60)

    def test_nothing_is_remembered_of_a_release_that_freed_nothing(self) -> None:
        assert block("x").release(0, ID, NOW).record.spec.history == ()

    def test_a_release_by_a_clock_behind_ends_no_sooner_than_it_began(self) -> None:
        made, held = block("").assign(POD, ID, NOW, COOLDOWN)
        (past,) = made.release(held.ordinal, ID, NOW - 500).record.spec.history
        assert (past.since, past.until) == (NOW, NOW)

    def test_a_block_remembers_its_last_owners_and_stays_valid(self) -> None:
        made = block("")
        for number in range(HISTORY + 9):
            owner = Owner(f"h{number}", "node-1", f"pod-{number}", "shop")
            made, held = made.assign(owner, f"{number:016x}", NOW + number, 0)
            made = made.release(held.ordinal, held.id, NOW + number)
            made.record.check()
        assert [past.pod for past in made.record.spec.history] == [f"pod-{n}" for n in range(9, HISTORY + 9)]


class TestFrozen:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda found: found.assign(POD, ID, NOW, COOLDOWN), id="an assign"),
            pytest.param(
                lambda found: found.assign(POD, ID, NOW, COOLDOWN, Among.only(IPv4Address("10.0.0.5"))),
                id="an assign of an address asked for",
            ),
            pytest.param(lambda found: found.adopt(0, POD, ID, NOW), id="an adoption"),
            pytest.param(lambda found: found.release(0, f"{0:016x}", NOW), id="a release"),
        ],
    )
    def test_every_change_of_a_frozen_block_is_refused(self, change: Callable[[Block], object]) -> None:
        with pytest.raises(Frozen, match=r"10-0-0-0-29 is frozen.*migration m1"):
            change(frozen(block("x")))

    def test_releasing_what_is_not_there_needs_no_thaw(self) -> None:
        found = frozen(block("x"))
        assert found.release(0, ID, NOW) is found


def frozen(found: Block) -> Block:
    spec = msgspec.structs.replace(found.record.spec, frozen="m1")
    return Block(msgspec.structs.replace(found.record, spec=spec), found.network)
