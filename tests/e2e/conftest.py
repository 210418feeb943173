"""Clusters, one after another: with the reference plugins, with an etcd, and the one on which tortie is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tortie
from tests.e2e.tortie import Installed
from tests.kube.whole.cluster import Cluster, missing
from tests.sandbox import needs_sandbox

_LIFE = (
    "cluster",
    "etcd_mode",
    "install",
    "operating",
    "traffic",
    "policies",
    "truth_tables",
    "scale",
    "away",
    "skew",
    "upgrade",
    "removed_node",
    "uninstall",
)
"""The modules in the order of a cluster's life; each leaves it as the next one needs it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(needs_sandbox)
        item.add_marker(pytest.mark.kernel)
    ordered = sorted(ours, key=lambda item: _LIFE.index(item.path.stem.removeprefix("test_")))
    items[:] = [*(item for item in items if item not in set(ours)), *ordered]


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
