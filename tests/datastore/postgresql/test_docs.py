"""docs/datastores.md says what an admin types: it is typed here, and does what the page says."""

import re
from collections.abc import Iterator

import pytest

from datastore.errors import Compacted, Conflict
from datastore.postgresql import address
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Revision
from datastore.urls import open_store
from tests.datastore.postgresql.place import Place
from tests.datastore.processes import ROOT
from tests.datastore.samples import policy
from tests.servers.postgresql import PostgreSQLServer

PAGE = (ROOT / "docs" / "datastores.md").read_text()


@pytest.fixture
def set_up(server: PostgreSQLServer) -> Iterator[str]:
    """The address of a database made as the page says, under other names."""
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    statements = block.replace("tortie", "documented").replace("...", "secret").strip().splitlines()
    assert len(statements) == 2
    server.sql(*statements)
    yield f"postgresql://documented:secret@127.0.0.1:{server.port}/documented?sslmode=disable"
    server.sql("DROP DATABASE documented WITH (FORCE)", "DROP ROLE documented")


async def test_a_role_and_its_database_are_all_it_takes(set_up: str) -> None:
    store = await open_store(set_up)
    await store.create(policy())
    await store.close()


async def test_a_new_identity_makes_all_old_revisions_foreign(place: Place) -> None:
    (statement,) = re.findall(r"`(UPDATE tortie\.store SET identity[^`]*)`", PAGE)
    store = await place.open()
    made = await store.create(policy())
    place.here(statement)
    found = await store.get(NetworkPolicy, "db", "shop")
    assert found.revision != made.revision
    with pytest.raises(Conflict):
        await store.update(made)
    with pytest.raises(Compacted):
        await anext(store.watch(NetworkPolicy, Revision(made.revision)))
    await store.update(found)


async def test_the_page_shows_how_to_look_inside(place: Place) -> None:
    (statement,) = re.findall(r"`(SELECT kind[^`]*)`", PAGE)
    store = await place.open()
    await store.create(policy())
    assert '|shop|db|1|{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy"' in place.here(statement)


def test_the_page_names_every_parameter_and_mode() -> None:
    for name in (*address._PARAMETERS, *address.SSL_MODES):
        assert f"`{name}`" in PAGE
    assert f"`pool` | connections for calls, {address.POOL} by default" in PAGE
    assert f"waits for the server, {address.TIMEOUT_S:g} by default" in PAGE
