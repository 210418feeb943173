"""The store is on the server that takes writes, whichever that is now."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from datastore.errors import Compacted, Conflict, NotFound, Unavailable
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Revision, Store
from tests.datastore.endurance import again, until
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy, relabelled
from tests.servers.postgresql import PostgreSQLServer


@pytest.fixture
async def standby(own_place: Place) -> AsyncIterator[PostgreSQLServer]:
    """A hot standby of `own_place`'s server, which has all that this had."""
    await (await own_place.open()).close()
    server = PostgreSQLServer(conf="max_prepared_transactions = 2")
    server.copy(own_place.server)
    await server.start()
    yield server
    server.remove()


def both(place: Place, standby: PostgreSQLServer) -> list[str]:
    ports = (standby.port, place.server.port)
    return [",".join(f"127.0.0.1:{port}" for port in order) for order in (ports, ports[::-1])]


async def test_a_standby_is_refused_and_passed_over(own_place: Place, standby: PostgreSQLServer) -> None:
    with pytest.raises(Unavailable, match="is a standby, and the store is on the primary"):
        await own_place.open(port=standby.port)
    for number, hosts in enumerate(both(own_place, standby)):
        store = await own_place.open(hosts=hosts)
        await store.create(policy(f"p{number}"))


async def test_after_a_fail_over_no_revision_of_the_lost_server_is_taken_for_one_of_the_new(
    own_place: Place, standby: PostgreSQLServer
) -> None:
    primary = own_place.server
    store = await own_place.open(hosts=both(own_place, standby)[1])
    first = await store.create(policy("first"))

    async def is_copied() -> bool:
        return standby.sql("SELECT count(*) FROM tortie.object", database=own_place.name) == "1"

    await until(is_copied)
    await standby.stop()
    lost = await store.create(policy("lost"))  # the standby never hears of it
    await primary.kill()
    await standby.start()
    await standby.promote()

    found = await again(lambda: store.get(NetworkPolicy, "first", "shop"))
    assert found.metadata.labels == first.metadata.labels
    assert found.revision != first.revision
    with pytest.raises(NotFound):
        await store.get(NetworkPolicy, "lost", "shop")
    with pytest.raises(Conflict):
        await again(lambda: store.update(relabelled(first, team="red")))
    with pytest.raises(Compacted):
        await anext(store.watch(NetworkPolicy, Revision(lost.revision)))
    other = await store.create(policy("other"))
    assert other.revision.partition("-")[0] == lost.revision.partition("-")[0]  # counted again,
    assert other.revision != lost.revision  # but not the same


async def update_until_refused(store: Store, current: NetworkPolicy) -> None:
    while True:
        current = await store.update(current)


async def test_a_server_that_becomes_read_only_takes_no_writes_until_it_is_not(own_place: Place) -> None:
    server = own_place.server
    store = await own_place.open()
    first = await store.create(policy())
    server.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        with pytest.raises(Unavailable, match="the server takes no writes"):
            await update_until_refused(store, first)  # it hears of it when it is next idle
        with pytest.raises(Unavailable, match=r"set to be read-only \(default_transaction_read_only\)"):
            await store.update(first)
        with pytest.raises(Unavailable, match="read-only"):
            await own_place.open()
    finally:
        server.sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    await again(lambda: store.update(first))


async def test_a_server_with_too_many_connections_is_unavailable_until_it_has_room(place: Place) -> None:
    store = await place.open()
    place.sql(f"ALTER ROLE {place.name} CONNECTION LIMIT 1")
    with pytest.raises(Unavailable, match="max_connections"):
        await store.create(policy())
    assert (await store.list(NetworkPolicy)).items == ()
    place.sql(f"ALTER ROLE {place.name} CONNECTION LIMIT -1")
    await again(lambda: store.create(policy()))


async def test_a_store_has_no_more_connections_than_its_address_says(place: Place) -> None:
    store = await place.open(pool=2)
    await store.create(policy())
    await asyncio.gather(*(store.list(NetworkPolicy) for _ in range(20)))
    count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{place.name}'"  # noqa: S608
    assert place.sql(count) == "2"
    watch = store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)
    waiting = asyncio.create_task(anext(watch))

    async def one_more() -> bool:
        return place.sql(count) == "3"

    await until(one_more)
    await store.create(policy("other"))
    await waiting
    await watch.aclose()
    await store.close()

    async def none() -> bool:
        return place.sql(count) == "0"

    await until(none)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        pytest.param("synchronous_commit", "off", id="commits that don't wait for the disk"),
        pytest.param("default_transaction_isolation", "serializable", id="another isolation"),
        pytest.param("statement_timeout", "1", id="a shorter patience"),
        pytest.param("search_path", "other, public", id="another search path"),
        pytest.param("lock_timeout", "1", id="less patience with locks"),
        pytest.param("idle_session_timeout", "1", id="none with idle sessions"),
    ],
)
async def test_a_store_sets_what_it_needs_whatever_the_role_has(place: Place, setting: str, value: str) -> None:
    place.sql(f"ALTER ROLE {place.name} SET {setting} = {value}")
    store = await place.open()
    made = await store.create(policy())
    others = [await place.open() for _ in range(3)]
    tries = (other.update(relabelled(made, team="red")) for other in others)
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "NetworkPolicy"]
    session = await store._connector.connect()
    try:
        shown = await session._connection.fetchval(f"SELECT current_setting('{setting}')")  # type: ignore[attr-defined]
    finally:
        session.terminate()
    assert shown != value
