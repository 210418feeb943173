"""A server for each module that hurts one, and the one that all others share."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from datastore.store import Store
from tests.datastore.postgresql.place import Place
from tests.servers.postgresql import PostgreSQLServer, missing, shared_server


@pytest.fixture(autouse=True)
def _programs(request: pytest.FixtureRequest) -> None:
    if request.path.name not in ("test_address.py", "test_meanings.py") and (reason := missing()):
        pytest.skip(reason)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgreSQLServer]:
    """One that tests of this module may stop, and set otherwise."""
    if reason := missing():
        pytest.skip(reason)
    server = PostgreSQLServer(conf="max_prepared_transactions = 2")
    asyncio.run(server.start())
    yield server
    server.remove()


@pytest.fixture
async def server() -> PostgreSQLServer:
    """The one of all tests: each has a role, a database and a schema of its own."""
    return await shared_server()


@pytest.fixture
async def place(server: PostgreSQLServer) -> AsyncIterator[Place]:
    """A role and its database."""
    made = Place(server)
    yield made
    await made.close()


@pytest.fixture
async def own_place(own_server: PostgreSQLServer) -> AsyncIterator[Place]:
    """The same on the server of this module, which runs at the start and at the end."""
    await own_server.start()
    made = Place(own_server)
    yield made
    await own_server.start()
    await made.close()


@pytest.fixture
async def store(place: Place) -> Store:
    return await place.open()
