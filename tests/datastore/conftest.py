"""A store for each test, of each driver."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from datastore.store import Store
from tests.datastore.drivers import DRIVERS, Opener


@pytest.fixture(params=sorted(DRIVERS))
async def open_new(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Opener, None]:
    async with AsyncExitStack() as stack:
        yield DRIVERS[request.param](tmp_path, stack)


@pytest.fixture
async def store(open_new: Opener) -> Store:
    return await open_new()
