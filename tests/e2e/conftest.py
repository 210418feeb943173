"""Clusters, one after another: `bare`, with the reference plugins; one with an etcd; `installed`, in both families."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tortie
from tests.e2e.tortie import Installed
from tests.kube.whole.cluster import Cluster, missing
from tests.sandbox import needs_sandbox

collect_ignore = [] if os.environ.get("TORTIE_KUBEADM") else ["test_kubeadm.py"]
"""kubeadm's own control plane takes more than a minute of both processors; it is tried when asked for."""
_LIFE = (
    "cluster",
    "etcd_mode",
    "docs",
    "kubeadm",
    "install",
    "operating",
    "traffic",
    "families",
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
    """Three nodes of both families on which tortie has been installed, for all modules that follow."""
    if reason := tortie.missing():
        pytest.skip(reason)
    with Cluster.started(dual=True) as cluster:
        yield tortie.install(cluster, tortie.DUAL_STACK)


@pytest.fixture(scope="session")
def cluster(installed: Installed) -> Cluster:
    """The cluster of `installed`."""
    return installed.cluster
