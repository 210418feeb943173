"""`host check` on a node that runs: it lists what was planted, with the agent up and with it down, and nothing else."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from cni.records import Record, Records
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint, WorkloadEndpointSpec
from datastore.urls import open_store
from ipam.allocator import Allocator, Wanted
from ipam.block import Owner
from ipam.handles import Handles, lock_of
from ipam.rpc.client import connect
from kernel.links import host_interface
from tests.host import Host, hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
CONFIG = {"cniVersion": "1.0.0", "name": "net", "type": "tortie", "policy": {}, "ipam": {"assign_ipv6": True}}
LINK = host_interface("net", "gone", "eth0")
HANDLE = "net:gone:eth0"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A node with one pod, whose agent is looked at by refresh only every hour, so that it mends nothing meanwhile."""
    with hosts(tmp_path_factory.mktemp("host")) as made:
        added = made.call("ADD", CONFIG, netns=made.pod().path)
        assert added.status == 0, added.out
        yield made


def check(host: Host, *options: str) -> tuple[int, list[str]]:
    place = ("--state", str(host.state), "--socket", str(host.socket), "--node", "node-1")
    said = host.ctl("host", "check", *place, *options)
    assert said.err == ""
    return said.status, said.out.splitlines()


def test_a_node_with_a_pod_has_nothing_left_with_and_without_its_agent(host: Host) -> None:
    assert check(host) == (0, ["nothing left"])
    host.stop()
    assert check(host) == (0, ["nothing left"])
    host.start()


def test_programs_get_json(host: Host) -> None:
    status, lines = check(host, "-o", "json")
    assert (status, json.loads("\n".join(lines))) == (0, {"items": []})


def test_everything_that_is_planted_is_listed_and_all_of_it_goes_when_the_agent_comes(host: Host) -> None:
    host.stop()
    host.namespace.ip(f"link add {LINK} type veth peer name peer0", f"link set {LINK} up", "link set peer0 up")
    host.namespace.ip(f"route add 10.65.200.1/32 dev {LINK} proto 0x54")
    host.namespace.run("ipset", "add", "tt4-pods", "10.65.200.1")
    lock = lock_of(host.state / "handles", "net:other:eth0")
    lock.write_text("net:other:eth0")
    address = asyncio.run(planted(host))
    tombstone = host.call("DEL", CONFIG, container="never")
    assert tombstone.status == 0
    status, lines = check(host)
    assert status == 1
    assert lines == sorted(lines)
    assert [line.partition(": ")[0] for line in lines] == [
        f"address {address}",
        "endpoint shop/old",
        f"file {lock}",
        "file journal of net:owed:eth0",
        "file record of net:half:eth0",
        "file tombstone of net:never:eth0",
        f"link {LINK}",
        "member 10.65.200.1 of tt4-pods",
        f"route 10.65.200.1/32 dev {LINK}",
    ]
    items = json.loads("\n".join(check(host, "-o", "json")[1]))["items"]
    assert items[0]["node"] == "node-1"
    assert [f"{item['kind']} {item['name']}: {item['reason']}" for item in items] == lines
    host.namespace.ip(f"link del {LINK}")
    host.start()
    assert check(host)[1] == [f"address {address}: of {HANDLE}, which has no attachment here"]
    asyncio.run(released(host))
    assert check(host) == (0, ["nothing left"])


async def released(host: Host) -> None:
    async with connect(host.state / "ipam.sock") as client:
        await client.release_by_handle(HANDLE)


async def planted(host: Host) -> str:
    """In the store and the state folder what agents that died have left; gives an address."""
    store = await open_store(host.datastore)
    allocator = Allocator(store, "node-1", "machine-1")
    await allocator.load()
    async with Handles(host.state / "handles").hold(HANDLE) as hold:
        (held,) = await allocator.assign(Owner(HANDLE, "node-1"), Wanted((4,)), hold)
        hold.settle()
    record = Record(network="net", container_id="half", interface="eth0", host_interface="tort00000000000", pod="x")
    Records(host.state).write(record)
    owed = Record(network="net", container_id="owed", interface="eth0", host_interface="tort00000000001", pod="y")
    Records(host.state).journal(owed)
    spec = WorkloadEndpointSpec(
        node="node-1", pod="old", container_id="c0", network="net", interface="eth0", host_interface=LINK
    )
    await store.create(WorkloadEndpoint(metadata=Metadata(name="old", namespace="shop"), spec=spec))
    await store.close()
    return str(held.address)
