"""Two nodes for the whole suite, one with an agent and one without, and the ways in as parametrized fixtures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import pytest

from tests.contract.ways import Way, WayId
from tests.host import Host, hosts


@pytest.fixture(scope="session")
def node_with_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(tmp_path_factory.mktemp("with")) as host:
        yield host


@pytest.fixture(scope="session")
def node_without_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(tmp_path_factory.mktemp("without"), start=False) as host:
        yield host


@pytest.fixture(params=["relay", "python", "alone"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Each way in that can serve every command."""
    with _opened(request, request.param) as found:
        yield found


@pytest.fixture(params=["relay", "python"])
def agent_way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Each way in behind which an agent is."""
    with _opened(request, request.param) as found:
        yield found


@pytest.fixture(params=get_args(WayId))
def any_way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Each way in, the one that can only judge the environment among them."""
    with _opened(request, request.param) as found:
        yield found


@pytest.fixture
def relay(request: pytest.FixtureRequest) -> Iterator[Way]:
    """The C relay, its agent there: what no other way in can change."""
    with _opened(request, "relay") as found:
        yield found


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> Iterator[Way]:
    """`python -I -m cni` without an agent."""
    with _opened(request, "alone") as found:
        yield found


@pytest.fixture
def down(request: pytest.FixtureRequest) -> Iterator[Way]:
    """The relay whose agent is away."""
    with _opened(request, "down") as found:
        yield found


@contextmanager
def _opened(request: pytest.FixtureRequest, way: WayId) -> Iterator[Way]:
    node = "node_with_agent" if way in ("relay", "python") else "node_without_agent"
    found = Way(way, request.getfixturevalue(node))
    try:
        yield found
    finally:
        found.close()
