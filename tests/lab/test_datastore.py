"""A lab on a datastore that isn't its own file: a server of this machine, by its address or its unix socket."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.node import Node
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.urls import open_store
from lab import forward, topology
from lab.state import Folder, LabError
from tests.datastore.places import PLACES
from tests.lab.cluster import Cluster
from tests.sandbox import needs_sandbox


@pytest.fixture
def folder() -> Iterator[Folder]:
    made = Folder(Path(tempfile.mkdtemp(prefix="tt-pg-")) / "lab")
    yield made
    topology.down(made)
    shutil.rmtree(made.path.parent, ignore_errors=True)


async def left(url: str) -> list[str]:
    store = await open_store(url)
    try:
        kinds = (Node, IPBlock, IPPool, WorkloadEndpoint)
        return [one.key for kind in kinds for one in (await store.list(kind)).items]
    finally:
        await store.close()


@needs_sandbox
@pytest.mark.kernel
@pytest.mark.parametrize("name", PLACES)
def test_a_lab_on_a_server_works_as_on_a_file_and_leaves_nothing_there(folder: Folder, name: str) -> None:
    place = PLACES[name](folder.path.parent)
    url = place.url
    topology.up(folder, 2, url, place.reach)
    cluster = Cluster(folder)
    assert (folder.datastore, (cluster.state.forwarder is not None)) == (url, place.forwarded)
    cluster.run("shop/api", node="node-1")
    cluster.run("shop/db", ports=["80"], node="node-2")
    assert cluster.reaches("shop/api", "shop/db", 80)
    assert "node-2" in cluster.done("get", "nodes")
    assert cluster.done("lab", "status").splitlines()[-1] == "controller leads"
    assert len(asyncio.run(left(url))) > 6
    with pytest.raises(LabError, match="is a cluster's, with nodes node-1, node-2"):
        topology.up(Folder(folder.path.with_name("other")), 1, url, place.reach)
    topology.down(folder)
    assert asyncio.run(left(url)) == []


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        pytest.param("sqlite:///srv/tortie.db", [], id="a file"),
        pytest.param("postgresql:///tortie?host=/tmp/pg", [], id="a unix socket"),
        pytest.param("postgresql://me@%2Ftmp%2Fpg/tortie", [], id="a unix socket, as a host"),
        pytest.param("postgresql://me:p@127.0.0.1/tortie", ["127.0.0.1:5432"], id="the usual port"),
        pytest.param("postgresql://[::1]:5433/tortie", ["[::1]:5433"], id="IPv6"),
        pytest.param("etcd://10.1.1.1,10.1.1.2:99", ["10.1.1.1:2379", "10.1.1.2:99"], id="several"),
        pytest.param("etcd://localhost", ["127.0.0.1:2379", "[::1]:2379"], id="localhost, in both families"),
    ],
)
def test_the_servers_that_an_address_names_are_found(url: str, servers: list[str]) -> None:
    assert [str(one) for one in forward.servers(url)] == servers


def test_servers_may_be_named_besides() -> None:
    assert [str(one) for one in forward.servers("sqlite:///d", ["127.0.0.1:6443"])] == ["127.0.0.1:6443"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("etcd://db.example:2379", "can't resolve 'db.example'", id="a name"),
        pytest.param("etcd://172.30.0.7:2379", "the lab's own nodes", id="an address of the lab's"),
        pytest.param("memory:", "each process's own", id="a store of nobody's"),
        pytest.param("sqlite:///run/x/tortie.db", "/run of its own", id="a file that nodes don't see"),
        pytest.param("postgresql:///t?host=/var/run/postgresql", "/run of its own", id="a socket that nodes don't see"),
    ],
)
def test_what_nodes_could_not_use_is_refused_before_anything_is_made(folder: Folder, url: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        topology.up(folder, 1, url)
    assert not folder.path.exists()
