"""Who may come in, and what they may do then."""

from pathlib import Path

import pytest

from datastore.errors import Forbidden, StoreError, Unavailable
from datastore.postgresql.address import Host
from datastore.postgresql.passfile import password
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.urls import open_store
from tests.datastore.endurance import again
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy
from tests.servers.postgresql import PASSWORD


async def test_a_wrong_password_is_forbidden_and_not_told(place: Place) -> None:
    with pytest.raises(Forbidden, match="password authentication failed") as caught:
        await place.open(password="hunter2")  # noqa: S106
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_an_expired_password_is_forbidden(place: Place) -> None:
    place.sql(f"ALTER ROLE {place.name} VALID UNTIL '2020-01-01'")
    with pytest.raises(Forbidden):
        await place.open()


async def test_a_role_that_may_not_log_in_is_forbidden(place: Place) -> None:
    place.sql(f"ALTER ROLE {place.name} NOLOGIN")
    with pytest.raises(Forbidden, match="not permitted to log in"):
        await place.open()


async def test_a_password_that_changes_is_read_again_from_its_file(place: Place, tmp_path: Path) -> None:
    passfile = tmp_path / "pgpass"
    passfile.touch(0o600)
    passfile.write_text(f"*:*:*:{place.name}:{PASSWORD.replace(':', chr(92) + ':')}\n")
    store = await place.open(password=None, passfile=passfile)
    first = await store.create(policy())
    place.sql(f"ALTER ROLE {place.name} PASSWORD 'next'")
    assert await store.get(NetworkPolicy, "db", "shop") == first  # whoever is in stays in
    place.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{place.name}'")  # noqa: S608
    with pytest.raises(Forbidden, match="password authentication failed"):
        await again(lambda: store.get(NetworkPolicy, "db", "shop"))
    passfile.write_text(f"*:*:*:{place.name}:next\n")

    async def after_the_pause() -> NetworkPolicy:
        try:
            return await store.get(NetworkPolicy, "db", "shop")
        except Forbidden as error:
            raise Unavailable("as before") from error

    assert await again(after_the_pause) == first


@pytest.mark.parametrize(
    ("mode", "error", "told"),
    [
        pytest.param(0o640, Forbidden, "may be read by others", id="everybody's"),
        pytest.param(None, Unavailable, "No such file", id="absent"),
    ],
)
async def test_a_password_file_that_cannot_be_used_is_named(
    place: Place, tmp_path: Path, mode: int | None, error: type[StoreError], told: str
) -> None:
    passfile = tmp_path / "pgpass"
    if mode is not None:
        passfile.touch()
        passfile.chmod(mode)
    with pytest.raises(error, match=f"{passfile}: {told}"):
        await place.open(password=None, passfile=passfile)


async def test_a_database_that_is_not_there_is_unavailable(place: Place) -> None:
    place.sql(f"ALTER DATABASE {place.name} RENAME TO {place.name}_moved")
    with pytest.raises(Unavailable, match="does not exist"):
        await place.open()
    place.sql(f"DROP DATABASE {place.name}_moved")


async def test_a_role_that_may_make_nothing_is_told_what_it_takes(place: Place) -> None:
    place.sql(f"ALTER DATABASE {place.name} OWNER TO postgres")
    with pytest.raises(Forbidden, match="takes CREATE on the database, or a schema tortie owned by the role"):
        await place.open()


async def test_a_schema_that_an_admin_made_for_the_role_is_enough(place: Place) -> None:
    place.sql(f"ALTER DATABASE {place.name} OWNER TO postgres")
    place.here(f"CREATE SCHEMA tortie AUTHORIZATION {place.name}")
    store = await place.open()
    await store.create(policy())


async def test_a_role_that_does_not_own_the_tables_needs_rights_on_them_alone(place: Place) -> None:
    await (await place.open()).close()
    place.here(
        f"REASSIGN OWNED BY {place.name} TO postgres",
        f"GRANT USAGE ON SCHEMA tortie TO {place.name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tortie TO {place.name}",
    )
    store = await place.open()
    made = await store.create(policy())
    place.here(f"REVOKE INSERT ON tortie.change FROM {place.name}")
    with pytest.raises(Forbidden, match="permission denied for table change"):
        await store.delete(made)
    place.here(f"REVOKE SELECT ON tortie.object FROM {place.name}")  # noqa: S608
    with pytest.raises(Forbidden, match="permission denied for table object"):
        await store.get(NetworkPolicy, "db", "shop")


async def test_a_socket_is_an_address(place: Place) -> None:
    url = f"postgresql://{place.name}@:{place.server.port}/{place.name}?host={place.server.folder}"
    store = await open_store(url)
    await store.create(policy())
    await store.close()


PASSFILE = r"""
# the first line that fits
db:5432:t:other:no
db:6000:*:me:of port 6000
db:*:t:me:a\:b\\c:d
*:*:*:me:of any
localhost:*:*:you:of the socket
too:short
"""


@pytest.mark.parametrize(
    ("host", "database", "user", "found"),
    [
        pytest.param(Host("db", 5432), "t", "me", r"a:b\c:d", id="with a colon and a backslash"),
        pytest.param(Host("db", 6000), "t", "me", "of port 6000", id="of a port"),
        pytest.param(Host("db", 5432), "x", "me", "of any", id="of any"),
        pytest.param(Host("/run/postgresql", 5432), "t", "you", "of the socket", id="of a socket"),
    ],
)
def test_a_password_file_is_read_as_libpq_does(
    tmp_path: Path, host: Host, database: str, user: str, found: str
) -> None:
    path = tmp_path / "pgpass"
    path.touch(0o600)
    path.write_text(PASSFILE)
    assert password(path, host, database, user) == found
    with pytest.raises(Forbidden, match="has no line for"):
        password(path, Host("db", 5432), "t", "nobody")
