"""The first start, by whoever comes first; and tables that are not ours."""

import asyncio

import pytest

from datastore.errors import Invalid, NotFound, Unavailable, Unknown
from datastore.postgresql.function import LOCK
from datastore.postgresql.schema import VERSION
from datastore.resources.networkpolicy import NetworkPolicy
from tests.datastore.endurance import until
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy


async def test_of_many_that_start_at_once_one_makes_the_store(place: Place) -> None:
    stores = await asyncio.gather(*(place.open() for _ in range(8)))
    identities = {(await store.list(NetworkPolicy)).revision for store in stores}
    assert len(identities) == 1
    made = await stores[0].create(policy())
    assert [await store.get(NetworkPolicy, "db", "shop") for store in stores] == [made] * 8


async def test_stores_of_several_schemas_are_several(place: Place) -> None:
    one, other = await place.open(schema="one"), await place.open(schema="other")
    made = await one.create(policy())
    assert (await other.list(NetworkPolicy)).items == ()
    watch = other.watch(NetworkPolicy, (await other.list(NetworkPolicy)).revision)
    own = await other.create(policy())
    assert (await anext(watch)).changes == (own,)
    assert own.revision != made.revision
    await watch.aclose()


async def test_a_store_is_found_again_with_its_identity(place: Place) -> None:
    store = await place.open()
    made = await store.create(policy())
    await store.close()
    again = await place.open()
    assert await again.get(NetworkPolicy, "db", "shop") == made
    await again.update(made)


async def test_a_founder_that_ends_half_way_leaves_nothing(place: Place) -> None:
    session = await place.session()
    async with session.transaction():
        await session.execute(f"SELECT pg_advisory_xact_lock({LOCK}, 0)")
        opening = asyncio.create_task(place.open())
        waiting = f"SELECT pid FROM pg_stat_activity WHERE usename = '{place.name}' AND wait_event_type = 'Lock'"  # noqa: S608

        async def waits() -> bool:
            return bool(place.sql(waiting))

        await until(waits)
        place.sql(f"SELECT pg_terminate_backend({place.sql(waiting)})")
        with pytest.raises((Unavailable, Unknown)):
            await opening
    assert place.here("SELECT to_regnamespace('tortie') IS NULL") == "t"
    await (await place.open()).create(policy())


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
async def test_tables_of_another_version_are_refused(place: Place, version: int) -> None:
    await (await place.open()).close()
    place.here(f"UPDATE tortie.store SET schema = {version}")  # noqa: S608
    with pytest.raises(Unavailable, match=f"has version {version}; this program knows {VERSION}"):
        await place.open()


@pytest.mark.parametrize(
    "columns", [pytest.param("name text", id="other columns"), pytest.param("schema text", id="no row")]
)
async def test_tables_of_another_program_are_refused(place: Place, columns: str) -> None:
    place.here("CREATE SCHEMA tortie", f"CREATE TABLE tortie.store ({columns})")
    place.here(f"GRANT ALL ON SCHEMA tortie TO {place.name}", f"GRANT ALL ON tortie.store TO {place.name}")
    with pytest.raises(Unavailable, match=r"column .*schema does not exist|of another program"):
        await place.open()


async def test_a_store_that_is_dropped_is_unavailable(place: Place) -> None:
    store = await place.open()
    made = await store.create(policy())
    place.here("DROP SCHEMA tortie CASCADE")
    for call in (store.get(NetworkPolicy, "db", "shop"), store.list(NetworkPolicy), store.update(made)):
        with pytest.raises(Unavailable, match="the schema is gone"):
            await call
    fresh = await place.open()
    with pytest.raises(NotFound):
        await fresh.update(made)


async def test_a_stored_object_that_cannot_be_read_is_named(place: Place) -> None:
    store = await place.open()
    await store.create(policy())
    place.here("""UPDATE tortie.object SET body = '{"apiVersion":"v1"}'""")
    for call in (store.get(NetworkPolicy, "db", "shop"), store.list(NetworkPolicy)):
        with pytest.raises(Invalid, match="stored as NetworkPolicy shop/db"):
            await call
