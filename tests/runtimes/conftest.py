"""A machine for each test, on a host that a module's tests share; after each nothing of any container may be left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import Host, hosts
from tests.runtimes import image, leftovers
from tests.runtimes.machine import Machine, machines
from tests.sandbox import needs_sandbox

_MARKS = (
    needs_sandbox,
    pytest.mark.skipif(os.getuid() != 0, reason="container runtimes are driven as root"),
    pytest.mark.kernel,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "host" in getattr(item, "fixturenames", ()):
            for mark in _MARKS:
                item.add_marker(mark)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image that containers are made of."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    image.make(path)
    return path


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(tmp_path_factory.mktemp("host"), start=False) as host:
        yield host


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    """Its agent serves."""
    if host.agent is None:
        host.start()
    with machines(host) as machine:
        machine.logged_before = len(host.log())
        yield machine
        leftovers.settle(machine)
