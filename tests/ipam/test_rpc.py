"""IPAM over gRPC: the service and its client on a real socket."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node as NodeResource
from datastore.resources.node import NodeSpec
from datastore.resources.value import Metadata
from ipam.rpc.client import IpamClient, ServiceError, connect
from ipam.rpc.server import IpamServer, IpamService
from tests.ipam.world import Clock, Node, owners, pool

ATTACHED = "net:c1:eth0"


STORES: list[MemoryStore] = []
"""The test's own, last: for questions that change it behind the service's back."""


@pytest.fixture
def store() -> MemoryStore:
    STORES.append(MemoryStore())
    return STORES[-1]


@pytest.fixture
async def client(tmp_path: Path, store: MemoryStore) -> AsyncIterator[IpamClient]:
    await store.create(pool("p4", "10.65.0.0/30", 30))
    await store.create(pool("p6", "fd65::/48"))
    node = Node("node-1", store, tmp_path, Clock())
    await node.allocator.load()
    service = IpamService(node.allocator, node.handles, store, "node-1", lambda handle: handle == ATTACHED)
    server = IpamServer(service)
    await server.start(tmp_path / "ipam.sock")
    async with connect(tmp_path / "ipam.sock") as connected:
        yield connected
    await server.close()


async def test_an_address_is_assigned_listed_and_released(client: IpamClient, store: MemoryStore) -> None:
    (given,) = await client.assign("manual/db", ipv4=True, ipv6=False)
    assert await owners(store) != {}
    (listed,) = await client.list()
    assert (listed.address, listed.handle, listed.node, listed.id) == (given.address, "manual/db", "node-1", given.id)
    assert [one.address for one in await client.release(listed)] == [given.address]
    assert await client.release(listed) == []
    assert await client.list() == []


async def test_both_families_and_release_by_handle(client: IpamClient) -> None:
    given = await client.assign("manual/db", ipv4=True, ipv6=True)
    assert len(given) == 2
    assert {one.address for one in await client.release_by_handle("manual/db")} == {one.address for one in given}
    assert await client.release_by_handle("manual/db") == []


async def test_a_handle_that_asks_again_gets_the_same_address(client: IpamClient) -> None:
    first = await client.assign("manual/db", ipv4=True, ipv6=False)
    again = await client.assign("manual/db", ipv4=True, ipv6=False)
    assert [one.address for one in first] == [one.address for one in again]


async def test_listing_is_narrowed_by_node_and_handle(client: IpamClient) -> None:
    for name in ("a", "b"):
        await client.assign(f"manual/{name}", ipv4=True, ipv6=False)
    assert [one.handle for one in await client.list(handle="manual/b")] == ["manual/b"]
    assert len(await client.list(node="node-1")) == 2


async def test_a_node_without_addresses_has_none_and_one_that_is_not_there_is_bad_input(
    client: IpamClient, store: MemoryStore
) -> None:
    spec = NodeSpec(machine="machine-2", addresses=("172.30.0.2",))
    await store.create(NodeResource(metadata=Metadata(name="node-2"), spec=spec))
    assert await client.list(node="node-2") == []
    with pytest.raises(ServiceError, match="no node 'node-3'") as refused:
        await client.list(node="node-3")
    assert refused.value.bad_input


async def test_a_pool_that_is_not_there_is_bad_input_and_an_exhausted_one_is_not(client: IpamClient) -> None:
    with pytest.raises(ServiceError, match="among x") as refused:
        await client.assign("a", ipv4=True, ipv6=False, pools=("x",))
    assert refused.value.bad_input
    with pytest.raises(ServiceError, match="no free") as refused:
        await exhausted(client)
    assert not refused.value.bad_input


async def exhausted(client: IpamClient) -> object:
    for number in range(5):
        await client.assign(f"manual/{number}", ipv4=True, ipv6=False)
    return None


async def another_nodes(client: IpamClient) -> object:
    """An allocation of another node, by a handle as attachments have them."""
    (given,) = await client.assign("net:c9:eth0", ipv4=True, ipv6=False)
    (record,) = (await STORES[-1].list(IPBlock)).items
    moved = msgspec.structs.replace(record.spec.allocations[str(given.ordinal)], node="node-2")
    spec = msgspec.structs.replace(record.spec, allocations={str(given.ordinal): moved})
    await STORES[-1].update(msgspec.structs.replace(record, spec=spec))
    return await client.release((await client.list())[0])


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        pytest.param(lambda c: c.assign("", ipv4=True, ipv6=False), "is no handle", id="an empty handle"),
        pytest.param(lambda c: c.assign("a b", ipv4=True, ipv6=False), "is no handle", id="a handle with a space"),
        pytest.param(lambda c: c.assign("a", ipv4=False, ipv6=False), "neither ipv4 nor ipv6", id="no family"),
        pytest.param(lambda c: c.assign("a", ipv4=True, ipv6=False, pools=("x",)), "no enabled IPv4.*x", id="no pool"),
        pytest.param(exhausted, "no free IPv4 address in p4", id="an exhausted pool"),
        pytest.param(lambda c: c.release_by_handle(ATTACHED), "freed by its DEL", id="a running pod's address"),
        pytest.param(another_nodes, "ask that node's agent", id="an address that may be another node's pod's"),
        pytest.param(lambda c: c.assign(ATTACHED, ipv4=True, ipv6=False), "attachment's", id="a pod's handle"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_one_sentence(
    client: IpamClient, ask: Callable[[IpamClient], Awaitable[object]], said: str
) -> None:
    with pytest.raises(ServiceError, match=said) as refused:
        await ask(client)
    assert not refused.value.unreachable


async def test_without_an_agent_the_client_says_where_it_looked(tmp_path: Path) -> None:
    async with connect(tmp_path / "none.sock") as nobody:
        with pytest.raises(ServiceError, match=r"none\.sock") as refused:
            await nobody.list()
    assert refused.value.unreachable


async def test_only_the_owner_may_connect(client: IpamClient, tmp_path: Path) -> None:
    assert (tmp_path / "ipam.sock").stat().st_mode & 0o077 == 0
