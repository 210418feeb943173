"""Watches: NOTIFY is a hint, and the log is read whatever becomes of it; what is forgotten, and when."""

import asyncio

import pytest

from datastore.errors import Compacted, Unavailable
from datastore.postgresql import writer
from datastore.postgresql.function import create_function
from datastore.postgresql.postgresql import PostgreSQLStore
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Revision
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.endurance import Mirror, again, change_things, listed, until
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy, relabelled
from tests.servers.proxy import proxied


async def now(store: PostgreSQLStore) -> Revision:
    return (await store.list(NetworkPolicy)).revision


async def listening(place: Place, sessions: int = 1) -> list[int]:
    """The processes that LISTEN, as soon as there are so many."""
    found: list[int] = []

    async def enough() -> bool:
        rows = place.sql(
            "SELECT pid FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%array_agg(DISTINCT%'"  # noqa: S608
            f" AND datname = '{place.name}'"
        )
        found[:] = [int(row) for row in rows.split()]
        return len(found) == sessions

    await until(enough)
    return found


async def test_a_watcher_hears_of_another_stores_write_long_before_it_would_look(place: Place) -> None:
    store, other = await place.open(timer_s=3600, bookmark_s=3600), await place.open()
    follower = Follower(store.watch(NetworkPolicy, await now(store)))
    for number in range(5):
        waiting = asyncio.create_task(follower.next())
        await listening(place)
        made = await other.create(policy(f"p{number}"))
        async with asyncio.timeout(PATIENCE_S):
            assert (await waiting).changes == (made,)
    await follower.watch.aclose()


async def test_what_is_told_while_nobody_listens_is_not_lost(place: Place) -> None:
    store, other = await place.open(timer_s=3600, bookmark_s=3600), await place.open()
    follower = Follower(store.watch(NetworkPolicy, await now(store)))
    waiting = asyncio.create_task(follower.until_sees("last"))
    for number in range(5):
        (process,) = await listening(place)
        place.sql(f"SELECT pg_terminate_backend({process})")
        await other.create(policy(f"p{number}"))
    await listening(place)
    await other.create(policy("last"))
    await waiting
    assert follower.names() == {*(f"p{number}" for number in range(5)), "last"}
    await follower.watch.aclose()


async def test_a_word_that_is_lost_on_its_way_is_made_up_for_by_a_look(place: Place) -> None:
    store, other = await place.open(timer_s=0.2, bookmark_s=3600), await place.open()
    told = "PERFORM pg_notify('tortie.change', kinds[i]);"
    function = create_function("tortie")
    assert told in function
    place.here(function.replace("CREATE", "CREATE OR REPLACE", 1).replace(told, ""))
    follower = Follower(store.watch(NetworkPolicy, await now(store)))
    for number in range(3):
        waiting = asyncio.create_task(follower.next())
        await listening(place)
        made = await other.create(policy(f"p{number}"))
        assert (await waiting).changes == (made,)
    await follower.watch.aclose()


async def test_a_listener_that_is_dead_without_a_word_is_replaced(place: Place) -> None:
    direct = await place.open()
    async with proxied(place.server.port) as proxy:
        store = await place.open(port=proxy.port, timeout=0.5, timer_s=0.2, bookmark_s=3600)
        start = await now(store)
        follower = Follower(store.watch(NetworkPolicy, start))
        waiting = asyncio.create_task(follower.next())
        await listening(place)
        before = proxy.connections
        proxy.stall = True

        async def tries_again() -> bool:
            return proxy.connections > before

        await until(tries_again)
        made = await direct.create(policy())
        proxy.stall = False
        try:
            assert (await waiting).changes == (made,)
        except Unavailable:  # it read while nothing moved
            follower.watch = store.watch(NetworkPolicy, start)
            assert (await follower.next()).changes == (made,)
        await follower.watch.aclose()


async def test_without_a_connection_to_listen_on_a_store_hears_its_own_writes(place: Place) -> None:
    store = await place.open(bookmark_s=3600)
    await store.delete(await store.create(policy("warm")))
    place.sql(f"ALTER ROLE {place.name} CONNECTION LIMIT 2")
    follower = Follower(store.watch(NetworkPolicy, await now(store)))
    waiting = asyncio.create_task(follower.next())
    await asyncio.sleep(0)
    made = await store.create(policy())
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).changes == (made,)
    await follower.watch.aclose()


async def test_a_watcher_that_keeps_up_is_never_compacted(place: Place) -> None:
    store, other = await place.open(keep=20), await place.open(keep=20)
    mirror = await Mirror.of(store)
    following = asyncio.create_task(mirror.follow())
    idle = store.watch(NetworkPolicy, await now(store))
    for round_ in range(20):
        await change_things(other, 15, lambda _: None)
        current = await listed(other)

        async def has_caught_up(current: dict[str, NetworkPolicy] = current) -> bool:
            if following.done():
                following.result()
            return {name: found for (_, name), found in mirror.follower.mirror.items()} == current

        await until(has_caught_up)
        assert round_ >= 0
    with pytest.raises(Compacted):
        await anext(idle)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await mirror.follower.watch.aclose()


COUNT = "SELECT count(*) FROM tortie.change"


async def test_the_log_keeps_what_it_should_and_not_much_more(place: Place) -> None:
    store, session = await place.open(keep=50), await place.session()
    current = await store.create(policy())
    for _ in range(200):
        current = await store.update(current)
        assert await session.fetchval(COUNT) <= 57  # a tenth more, and the write before it is compacted
    assert await session.fetchval(COUNT) >= 50


async def test_a_long_log_is_forgotten_bit_by_bit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await place.open()
    current = await store.create(policy())
    for _ in range(99):
        current = await store.update(current)
    await store.close()
    monkeypatch.setattr(writer, "MAX_FORGOTTEN", 40)
    thrifty = await place.open(keep=10)
    left = []
    for _ in range(4):
        current = await thrifty.update(current)
        await thrifty.create(policy(current.revision.partition("-")[0]))  # after the compaction before it
        left.append(int(place.here(COUNT)))
    assert left[0] > left[-1]
    assert left[-1] <= 12


async def test_nobody_who_writes_waits_for_a_compaction(place: Place) -> None:
    store, other = await place.open(keep=1), await place.open()
    first = await store.create(policy())
    for _ in range(3):
        first = await other.update(first)
    session = await place.session()
    async with session.transaction():
        await session.execute("UPDATE tortie.store SET compacted = 1")
        await session.execute("DELETE FROM tortie.change WHERE revision <= 1")
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                first = await other.update(first)


async def test_the_newest_entry_is_never_forgotten(place: Place) -> None:
    store = await place.open(keep=0)
    made = await store.create(policy())
    await store.delete(await store.update(relabelled(made, team="red")))
    await store.close()
    again_ = await place.open(keep=0)
    assert (await now(again_)).partition("-")[0] == "3"
    assert place.here(COUNT) == "1"
    assert (await again(lambda: again_.create(policy()))).revision.partition("-")[0] == "4"
