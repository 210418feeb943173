"""Sessions: how many there are, when they are made, and what becomes of one that ended or whose caller went away."""

import asyncio

import pytest

from datastore.errors import Unavailable
from datastore.postgresql import reader
from datastore.resources.networkpolicy import NetworkPolicy
from tests.datastore.endurance import again, until
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy
from tests.servers.proxy import proxied


def end_all(place: Place) -> None:
    place.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{place.name}'")  # noqa: S608


def count(place: Place, state: str = "") -> int:
    and_state = f" AND state = '{state}'" if state else ""
    return int(place.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{place.name}'{and_state}"))  # noqa: S608


async def ended(place: Place) -> None:
    """All of them, gone: what is sent to one that is still going is in doubt."""
    end_all(place)

    async def none() -> bool:
        return count(place) == 0

    await until(none)


async def test_a_session_that_ended_while_it_was_idle_costs_nobody_an_error(place: Place) -> None:
    store = await place.open()
    made = await store.create(policy())
    for _ in range(3):
        await asyncio.gather(*(store.list(NetworkPolicy) for _ in range(10)))
        await ended(place)
        assert await store.get(NetworkPolicy, "db", "shop") == made
        await ended(place)
        made = await store.update(made)


async def test_a_read_that_is_cut_is_asked_again(place: Place) -> None:
    async with proxied(place.server.port) as proxy:
        store = await place.open(port=proxy.port)
        made = await store.create(policy())
        cut = False

        def cut_once(_: bytes) -> None:
            nonlocal cut
            if not cut:
                cut = True
                proxy.cut()

        proxy.on_answer = cut_once
        assert await store.get(NetworkPolicy, "db", "shop") == made
        assert cut


async def test_a_reader_who_goes_away_leaves_nobody_his_answer(place: Place) -> None:
    store = await place.open(pool=2)
    made = await store.create(policy())
    session = await place.session()
    async with session.transaction():
        await session.execute("LOCK TABLE tortie.object IN ACCESS EXCLUSIVE MODE")
        for _ in range(3):
            reading = asyncio.create_task(store.list(NetworkPolicy))

            async def waits() -> bool:
                return count(place, "active") >= 1

            await until(waits)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
    assert await store.get(NetworkPolicy, "db", "shop") == made

    async def two() -> bool:
        return count(place) == 2

    await until(two)


async def test_when_all_sessions_are_busy_a_reader_waits_no_longer_than_the_timeout(place: Place) -> None:
    store = await place.open(pool=2, timeout=1)
    made = await store.create(policy())
    session = await place.session()
    async with session.transaction():
        await session.execute("LOCK TABLE tortie.object IN ACCESS EXCLUSIVE MODE")
        reads = (store.get(NetworkPolicy, "db", "shop") for _ in range(4))
        outcomes = await asyncio.gather(*reads, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert await again(lambda: store.get(NetworkPolicy, "db", "shop")) == made


async def test_sessions_that_nobody_needs_are_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await place.open(pool=6)
    await asyncio.gather(*(store.list(NetworkPolicy) for _ in range(20)))
    assert count(place) > 1
    monkeypatch.setattr(reader, "IDLE_S", 0.0)
    await store.list(NetworkPolicy)

    async def at_most_one() -> bool:
        return count(place) <= 1

    await until(at_most_one)


async def test_a_server_that_is_away_is_not_asked_by_every_call(place: Place) -> None:
    async with proxied(place.server.port) as proxy:
        store = await place.open(port=proxy.port)
        await store.create(policy())
        proxy.refuse = True
        proxy.cut()
        before = proxy.connections
        for _ in range(200):
            with pytest.raises(Unavailable):
                await store.list(NetworkPolicy)
            with pytest.raises(Unavailable):
                await store.create(policy("other"))
        assert proxy.connections - before < 10
        proxy.refuse = False
        await again(lambda: store.create(policy("other")))


async def test_the_host_that_was_good_is_asked_first(place: Place) -> None:
    async with proxied(place.server.port) as one, proxied(place.server.port) as other:
        one.refuse = True
        store = await place.open(hosts=f"127.0.0.1:{one.port},127.0.0.1:{other.port}")
        await store.create(policy())
        tried = one.connections
        other.cut()
        await store.list(NetworkPolicy)
        assert one.connections == tried
        one.refuse, other.refuse = False, True
        other.cut()
        await again(lambda: store.list(NetworkPolicy))
        assert one.connections > tried


async def test_several_hosts_that_are_away_are_all_named(place: Place) -> None:
    async with proxied(place.server.port) as proxy:
        proxy.refuse = True
        hosts = [f"127.0.0.1:{proxy.port}", "127.0.0.1:1", "nowhere.invalid:5432"]
        with pytest.raises(Unavailable) as caught:
            await place.open(hosts=",".join(hosts))
    assert all(f"PostgreSQL at {host}: " in str(caught.value) for host in hosts)
