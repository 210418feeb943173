"""Writes that are stopped half way, in a server that is real: what their callers are told, and what became of them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from datastore.errors import Conflict, NotFound, Unavailable, Unknown
from datastore.postgresql.function import LOCK
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata
from datastore.store import Store
from tests.datastore.endurance import until
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy, relabelled
from tests.sandbox import needs_sandbox
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.proxy import proxied

LOCK_LOG = "LOCK TABLE tortie.change IN EXCLUSIVE MODE"


@asynccontextmanager
async def log_held(place: Place) -> AsyncIterator[None]:
    """No write gets further than its log entry, as if the server had so much to do; reads do."""
    session = await place.session()
    async with session.transaction():
        await session.execute(LOCK_LOG)
        yield


async def stuck(place: Place, writers: int = 1) -> list[int]:
    """The processes of writes that wait for a lock, as soon as there are so many."""
    found: list[int] = []

    async def are_waiting() -> bool:
        rows = place.sql(
            f"SELECT pid FROM pg_stat_activity WHERE usename = '{place.name}' AND wait_event_type = 'Lock'"  # noqa: S608
        )
        found[:] = [int(row) for row in rows.split()]
        return len(found) == writers

    await until(are_waiting)
    return found


async def get(store: Store) -> NetworkPolicy | None:
    try:
        return await store.get(NetworkPolicy, "db", "shop")
    except NotFound:
        return None


async def test_a_write_that_waits_in_the_server_lands_after_its_caller_was_cut_off(place: Place) -> None:
    direct = await place.open()
    first = await direct.create(policy())
    async with proxied(place.server.port) as proxy:
        store = await place.open(port=proxy.port)
        async with log_held(place):
            writing = asyncio.create_task(store.update(relabelled(first, team="red")))
            await stuck(place)
            proxy.cut()
            with pytest.raises(Unknown, match="closed in the middle of operation"):
                await writing
            assert await get(direct) == first  # it looks as if nothing would come
            bumping = asyncio.create_task(direct.update(first))
            await stuck(place, writers=2)
        with pytest.raises(Conflict):  # the one that came first has won
            await bumping
        late = await get(direct)
        assert late is not None
        assert late.metadata.labels == {"team": "red"}


async def test_a_write_whose_process_was_ended_is_unknown_and_a_bump_settles_it(place: Place) -> None:
    store = await place.open()
    first = await store.create(policy())
    async with log_held(place):
        writing = asyncio.create_task(store.update(relabelled(first, team="red")))
        (process,) = await stuck(place)
        place.sql(f"SELECT pg_terminate_backend({process})")
        with pytest.raises(Unknown, match="terminating connection due to administrator command"):
            await writing
    bumped = await store.update(first)
    assert await get(store) == bumped


async def test_a_write_that_was_cancelled_in_the_server_is_unavailable(place: Place) -> None:
    store = await place.open()
    first = await store.create(policy())
    async with log_held(place):
        writing = asyncio.create_task(store.update(relabelled(first, team="red")))
        (process,) = await stuck(place)
        place.sql(f"SELECT pg_cancel_backend({process})")
        with pytest.raises(Unavailable, match="canceling statement due to user request"):
            await writing
    assert await get(store) == first
    await store.update(first)


async def test_a_server_that_is_too_slow_for_a_write_ends_it_before_its_caller_gives_up(place: Place) -> None:
    store = await place.open(timeout=1)
    first = await store.create(policy())
    async with log_held(place):
        with pytest.raises(Unavailable, match="canceling statement due to statement timeout"):
            await store.update(relabelled(first, team="red"))
    assert await get(store) == first
    await store.update(first)


async def test_a_deadlock_is_unavailable_and_changed_nothing(place: Place) -> None:
    place.sql(f"ALTER ROLE {place.name} SET deadlock_timeout = '3s'")  # long enough for the test to make one
    store = await place.open()
    first = await store.create(policy())
    session = await place.session()
    async with session.transaction():
        await session.execute("SET LOCAL deadlock_timeout = '60s'")  # so that the other one is chosen
        await session.execute(LOCK_LOG)
        writing = asyncio.create_task(store.update(first))
        await stuck(place)
        await session.execute(f"SELECT pg_advisory_xact_lock({LOCK}, 'tortie.store'::regclass::oid::integer)")
        with pytest.raises(Unavailable, match="deadlock detected"):
            await writing
    assert await get(store) == first


async def test_a_cancelled_callers_write_lands(place: Place) -> None:
    store = await place.open()
    first = await store.create(policy())
    async with log_held(place):
        writing = asyncio.create_task(store.update(relabelled(first, team="red")))
        await stuck(place)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        queued = asyncio.create_task(store.create(policy("queued")))
        await asyncio.sleep(0)
        queued.cancel()

    async def both_landed() -> bool:
        found = (await store.list(NetworkPolicy)).items
        return [item.metadata.labels for item in found] == [{"team": "red"}, {}]

    await until(both_landed)


async def test_what_was_not_sent_before_the_server_fell_silent_is_unavailable(place: Place) -> None:
    async with proxied(place.server.port) as proxy:
        store = await place.open(port=proxy.port, timeout=1)
        await store.create(policy("warm"))
        proxy.stall = True
        writing = [asyncio.create_task(store.create(policy(f"p{number}"))) for number in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writing += [asyncio.create_task(store.create(policy(f"q{number}"))) for number in range(2)]
        outcomes = await asyncio.gather(*writing, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown, Unavailable, Unavailable]
        proxy.stall = False
        direct = await place.open()
        names = {item.name for item in (await direct.list(NetworkPolicy)).items}
        assert names.isdisjoint({"q0", "q1"})


async def test_a_write_that_the_server_refuses_for_what_it_holds_does_not_fail_those_beside_it(place: Place) -> None:
    store = await place.open()
    place.here(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.name LIKE 'bad%' THEN RAISE check_violation USING MESSAGE = 'bad'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON tortie.object FOR EACH ROW EXECUTE FUNCTION public.no()",
    )
    names = ["first", "a", "bad-1", "b", "bad-2", "c"]
    outcomes = await asyncio.gather(*(store.create(policy(name)) for name in names), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == [
        *("NetworkPolicy", "NetworkPolicy", "Unavailable", "NetworkPolicy", "Unavailable", "NetworkPolicy")
    ]
    found = {item.name: item for item in (await store.list(NetworkPolicy)).items}
    assert found == {item.name: item for item in outcomes if isinstance(item, NetworkPolicy)}


async def test_a_server_that_shuts_down_during_a_write_leaves_it_in_doubt(own_place: Place) -> None:
    place, own_server = own_place, own_place.server
    store = await place.open()
    first = await store.create(policy())
    place.here("BEGIN", LOCK_LOG, "PREPARE TRANSACTION 'held'")  # which no shutdown ends
    writing = asyncio.create_task(store.update(relabelled(first, team="red")))
    await stuck(place)
    stopping = asyncio.create_task(own_server.stop())
    with pytest.raises(Unknown, match="terminating connection due to administrator command"):
        await writing
    await stopping
    with pytest.raises(Unavailable):  # nothing was sent
        await store.update(first)
    await own_server.start()
    place.here("ROLLBACK PREPARED 'held'")
    assert await get(await place.open()) == first


@pytest.fixture
def small_disk(own_server: PostgreSQLServer) -> Iterator[Path]:
    folder = own_server.folder / "small"
    own_server.mount(folder, size_mib=4)
    yield folder
    own_server.unmount(folder)


@needs_sandbox
async def test_a_full_disk_is_unavailable_and_what_was_there_stays(own_place: Place, small_disk: Path) -> None:
    place = own_place
    store = await place.open()
    place.sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    try:
        place.here("ALTER TABLE tortie.object SET TABLESPACE small")
        stored = [await store.create(policy("small"))]
        with pytest.raises(Unavailable, match="No space left on device"):
            await fill(store, stored)
        assert len(stored) > 1
        listing = await store.list(NetworkPolicy)
        assert {item.name: item for item in listing.items} == {item.name: item for item in stored}
        await store.update(stored[0])
    finally:
        await place.close()
        place.sql("DROP TABLESPACE small")


async def fill(store: Store, stored: list[NetworkPolicy]) -> None:
    """Create one of 300 kB after another, which a server can't make much smaller."""
    for number in range(40):
        annotations = {"a": secrets.token_hex(150_000)}
        made = NetworkPolicy(metadata=Metadata(name=f"p{number}", namespace="shop", annotations=annotations))
        stored.append(await store.create(made))  # what came before the failure is wanted
