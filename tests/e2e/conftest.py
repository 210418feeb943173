"""Two clusters, one after the other: `bare`, with the reference plugins, and `tortie`, on which tortie is installed."""

from collections.abc import Iterator

import pytest

from tests.e2e import tortie
from tests.e2e.tortie import Installed
from tests.kube.whole.cluster import Cluster, missing
from tests.sandbox import needs_sandbox


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(needs_sandbox)
        item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session")
def able() -> None:
    """Skips where no cluster can be had."""
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def bare(able: None) -> Iterator[Cluster]:
    """Three nodes without a CNI configuration."""
    with Cluster.started() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def installed(able: None) -> Iterator[Installed]:
    """Three nodes on which tortie has been installed, for all modules that follow."""
    if reason := tortie.missing():
        pytest.skip(reason)
    with Cluster.started() as cluster:
        yield tortie.install(cluster)


@pytest.fixture(scope="session")
def cluster(installed: Installed) -> Cluster:
    """The cluster of `installed`."""
    return installed.cluster
