"""One lab of three nodes for all tests here; each test makes and removes its own pods and policies."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import topology
from lab.state import Folder
from tests.lab.cluster import Cluster
from tests.sandbox import needs_sandbox


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lab_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(needs_sandbox)
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session")
def lab_cluster() -> Iterator[Cluster]:
    folder = Folder(Path(tempfile.mkdtemp(prefix="tt-lab-")))
    topology.up(folder, 3)
    try:
        yield Cluster(folder)
    finally:
        topology.down(folder)
        shutil.rmtree(folder.path, ignore_errors=True)


@pytest.fixture
def cluster(lab_cluster: Cluster) -> Iterator[Cluster]:
    """The lab, empty at first and emptied again."""
    yield lab_cluster
    lab_cluster.clear()
