"""A log of changes merged to the difference of two snapshots, and a watch that misses none."""

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest

from datastore import feed
from datastore.bell import Bell
from datastore.errors import Unavailable
from datastore.feed import Change, Difference
from datastore.record import Indexed, Key
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Batch, Gone, Revision, Where
from tests.datastore.drivers import PATIENCE_S

A: Indexed = frozenset({("node", "a")})
B: Indexed = frozenset({("node", "b")})
AB = A | B
IN_A = Where("node", "a")


@pytest.mark.parametrize(
    ("states", "where", "seen"),
    [
        pytest.param([None, A], None, "present", id="created"),
        pytest.param([A, A], None, "present", id="changed"),
        pytest.param([A, None], None, "gone", id="deleted"),
        pytest.param([None, A, None], None, "", id="came and went"),
        pytest.param([A, None, A], None, "present", id="went and came"),
        pytest.param([A, None, A, None], None, "gone", id="went twice"),
        pytest.param([B, A], IN_A, "present", id="entered"),
        pytest.param([A, B], IN_A, "gone", id="left"),
        pytest.param([A, AB], IN_A, "present", id="stayed, with another value beside"),
        pytest.param([AB, B], IN_A, "gone", id="lost one of two values"),
        pytest.param([B, B], IN_A, "", id="changed outside"),
        pytest.param([B, A, B], IN_A, "", id="looked in"),
        pytest.param([A, B, A], IN_A, "present", id="looked out"),
        pytest.param([A, B, None], IN_A, "gone", id="left, then deleted"),
        pytest.param([B, None], IN_A, "", id="deleted outside"),
        pytest.param([A, None, B], IN_A, "gone", id="deleted, and made again outside"),
        pytest.param([A], None, "", id="no change at all"),
    ],
)
def test_changes_are_merged_to_a_difference(states: list[Indexed | None], where: Where | None, seen: str) -> None:
    key = Key("pods", "shop", "web")
    changes = [Change(key, was, now) for was, now in pairwise(states)]
    assert feed.merge(changes, where) == Difference(
        (key,) if seen == "present" else (), (key,) if seen == "gone" else ()
    )


def test_objects_are_merged_apart() -> None:
    one, other = Key("pods", "shop", "web"), Key("pods", "bank", "web")
    changes = [Change(one, None, A), Change(other, A, B), Change(one, A, A), Change(other, B, None)]
    assert feed.merge(changes, None) == Difference((one,), (other,))


async def test_a_ring_during_a_read_leads_to_another() -> None:
    bell = Bell()
    reads = 0

    async def read(position: Revision) -> Batch[NetworkPolicy]:
        nonlocal reads
        reads += 1
        if reads == 1:
            bell.ring(("pods",))  # a commit that this read is too early to see
            return Batch((), position)
        return Batch((Gone("shop", "web"),), Revision("2"))

    async with aclosing(feed.follow("pods", Revision("1"), read, bell, 3600)) as watch, asyncio.timeout(PATIENCE_S):
        assert (await anext(watch)).revision == "2"


async def test_each_read_goes_on_where_the_last_one_ended() -> None:
    bell = Bell()
    positions: list[str] = []

    async def read(position: Revision) -> Batch[NetworkPolicy]:
        positions.append(position)
        return Batch((), Revision(f"{position}+"))

    async with aclosing(feed.follow("pods", Revision("1"), read, bell, 0)) as watch:
        assert [(await anext(watch)).revision for _ in range(3)] == ["1+", "1++", "1+++"]
    assert positions == ["1", "1+", "1++"]


async def test_a_store_that_cannot_be_read_ends_a_watch_unless_it_is_being_closed() -> None:
    bell = Bell()

    async def read(_: Revision) -> Batch[NetworkPolicy]:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await anext(feed.follow("pods", Revision("1"), read, bell, 3600))

    async def closing(_: Revision) -> Batch[NetworkPolicy]:
        bell.close()
        raise Unavailable("closed")

    assert await anext(feed.follow("pods", Revision("1"), closing, bell, 3600), None) is None
