"""Two nodes for the whole suite, one with an agent and one without, and the ways in as parametrized fixtures."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import get_args

import pytest

from tests.contract.ways import Way, WayId
from tests.host import Host, hosts


class Nodes:
    """The nodes that are up. One on which a test left something is given up: the next test gets another."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self._places = tmp_path_factory
        self._up: dict[bool, tuple[Host, ExitStack]] = {}

    def get(self, *, agent: bool) -> Host:
        if agent not in self._up:
            stack = ExitStack()
            host = stack.enter_context(hosts(self._places.mktemp("node"), start=agent))
            self._up[agent] = host, stack
        return self._up[agent][0]

    def give_up(self, *, agent: bool) -> None:
        if agent in self._up:
            self._up.pop(agent)[1].close()


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    found = Nodes(tmp_path_factory)
    yield found
    for agent in (True, False):
        found.give_up(agent=agent)


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
    nodes: Nodes = request.getfixturevalue("nodes")
    agent = way in ("relay", "python")
    found = Way(way, nodes.get(agent=agent))
    yield found
    try:
        found.close()
    except BaseException:
        nodes.give_up(agent=agent)
        raise
