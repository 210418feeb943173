"""Every test of the driver runs against each version of etcd."""

import pytest

from tests.servers import etcd


@pytest.fixture(params=sorted(etcd.VERSIONS))
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def server(version: str) -> etcd.Etcd:
    """The one that all tests share: nothing is done to it that another store would notice."""
    return etcd.shared(version)


@pytest.fixture
def url(server: etcd.Etcd) -> str:
    """Of a new store."""
    return server.url()
