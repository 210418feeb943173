"""ADD and DEL on the real kernel: all or nothing, idempotent, and nothing left (invariants 2 and 7)."""

import asyncio
import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest

from cni.detach import replay
from cni.node import NotEnforced
from cni.records import Record
from cni.standalone import NoPolicy
from datastore.errors import Unavailable
from datastore.memory import MemoryStore
from datastore.resources.value import Resource
from datastore.store import Listing, Where
from kernel.links import host_interface
from tests.cni.node import ATTACHMENT, Running, World, fill, worlds
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
HOST = host_interface("net", "c1", "eth0")
POOLS = {"v4": "10.65.0.0/16", "v6": "fd65::/48"}
NOTHING: dict[str, object] = {"links": [], "routes": [], "files": [], "pods": []}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path) as made:
        yield made


def test_an_add_makes_the_pod_reachable_and_answers_with_what_it_made(world: World) -> None:
    async def scenario(running: Running) -> dict[str, object]:
        await fill(world.store, **POOLS)
        return await running.add()

    result = world.run(scenario)
    four, six = (ip_address(str(ip["address"]).split("/")[0]) for ip in result["ips"])  # type: ignore[attr-defined]
    assert (four.version, six.version) == (4, 6)
    assert {row["dst"] for row in world.shown(world.namespace, "route")} >= {str(four), "169.254.1.1"}
    (host,) = world.shown(world.namespace, "link", "show", HOST)
    assert (host["ifalias"], host["mtu"]) == ("shop/web-c1", 1400)
    assert world.namespace.run("cat", f"/proc/sys/net/ipv6/conf/{HOST}/accept_ra") == "0\n"


PING = """
import socket, sys, threading, os, ctypes
address, path = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
def serve(ready):
    fd = os.open(path, os.O_RDONLY)
    ctypes.CDLL(None).setns(fd, 0)
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 7777))
        ready.set()
        data, peer = server.recvfrom(100)
        server.sendto(data, peer)
ready = threading.Event()
thread = threading.Thread(target=serve, args=(ready,), daemon=True)
thread.start()
ready.wait()
with socket.socket(family, socket.SOCK_DGRAM) as client:
    client.settimeout(5)
    client.sendto(b"hello", (address, 7777))
    assert client.recv(100) == b"hello"
"""


def test_the_pod_answers_its_node_in_both_families(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await fill(world.store, **POOLS)
        return [ip["address"].split("/")[0] for ip in (await running.add())["ips"]]

    for address in world.run(scenario):
        world.namespace.run("python3", "-c", PING, address, world.pods[0].path)


def test_a_delete_leaves_nothing_and_twice_is_once(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await fill(world.store, **POOLS)
        await running.add()
        for _ in range(3):
            output = await running.delete()
            assert (output.status, output.stdout) == (0, b"")
        await running.node.reaper.reaped()
        return await running.owned()

    assert world.run(scenario) == []
    assert world.left() == NOTHING
    assert world.endpoints.told == ["publish web-c1", "withdraw c1"]


def test_a_delete_of_what_never_was_succeeds(world: World) -> None:
    async def scenario(running: Running) -> int:
        return (await running.delete(container="never")).status

    assert world.run(scenario) == 0
    assert world.left() == NOTHING


def test_a_second_add_of_an_attachment_gives_the_same_answer(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        first = await running.add()
        assert await running.add() == first
        assert len(await running.owned()) == 2
        await running.delete()
        assert await running.owned() == []

    world.run(scenario)


def test_two_containers_of_one_pod_name_are_apart(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await fill(world.store, **POOLS)
        await running.add(container="old", pod=0)
        await running.add(container="new", pod=1)
        await running.delete(container="old", pod=0)
        await running.node.reaper.reaped()
        return await running.owned()

    assert world.run(scenario) == ["net:new:eth0", "net:new:eth0"]
    assert world.host_ends() == [host_interface("net", "new", "eth0")]


def test_a_container_is_added_again_at_once_although_its_link_is_still_leaving(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.add()
        await running.delete()
        await running.add()

    world.run(scenario)
    assert world.host_ends() == [HOST]


@pytest.mark.parametrize(
    ("parameters", "code", "said"),
    [
        pytest.param({"ipam": {"assign_ipv6": True}}, 11, "IPv6", id="a family without a pool"),
        pytest.param({"ipam": {"ipv4_pools": ["nosuch"]}}, 11, "nosuch", id="a pool that isn't there"),
        pytest.param({"ipam": {"assign_ipv4": False}}, 11, "both false", id="no family at all"),
    ],
)
def test_what_cannot_be_assigned_leaves_nothing(
    world: World, parameters: dict[str, object], code: int, said: str
) -> None:
    async def scenario(running: Running) -> tuple[dict[str, object], list[str]]:
        await fill(world.store, v4=POOLS["v4"])
        refused = await running.refused(**parameters)
        await running.node.reaper.reaped()
        return refused, await running.owned()

    error, owned = world.run(scenario)
    assert error["code"] == code
    assert said in json.dumps(error)
    assert owned == []
    assert world.left() == NOTHING


def test_an_interface_that_exists_in_the_pod_is_refused_and_stays(world: World) -> None:
    world.pods[0].ip("link add eth0 type veth peer name other")

    async def scenario(running: Running) -> tuple[dict[str, object], list[str]]:
        await fill(world.store, **POOLS)
        refused = await running.refused()
        return refused, await running.owned()

    error, owned = world.run(scenario)
    assert (error["code"], owned) == (4, [])
    assert "eth0" in json.dumps(error)
    assert {row["ifname"] for row in world.shown(world.pods[0], "link")} == {"lo", "eth0", "other"}


def test_a_route_that_is_anothers_undoes_the_add(world: World) -> None:
    world.namespace.ip("link add other type veth peer name other2", "link set other up")
    world.namespace.ip("route add 10.65.0.0/32 dev other")

    async def scenario(running: Running) -> tuple[dict[str, object], list[str]]:
        await fill(world.store, v4="10.65.0.0/32")
        refused = await running.refused(ipam={"assign_ipv4": True})
        await running.node.reaper.reaped()
        return refused, await running.owned()

    error, owned = world.run(scenario)
    assert error["code"] == 999
    assert "10.65.0.0/32" in json.dumps(error)
    assert owned == []
    assert world.host_ends() == []
    assert [row["dst"] for row in world.shown(world.namespace, "route")] == ["10.65.0.0", "169.254.1.1"]


class ClosedGate(NoPolicy):
    async def admit(self, record: Record) -> None:
        raise NotEnforced("the kernel didn't confirm in 10 s")


def test_a_policy_that_does_not_come_into_force_undoes_the_add(world: World) -> None:
    world.policy = ClosedGate()

    async def scenario(running: Running) -> tuple[dict[str, object], list[str]]:
        await fill(world.store, **POOLS)
        refused = await running.refused()
        await running.node.reaper.reaped()
        return refused, await running.owned()

    error, owned = world.run(scenario)
    assert error["code"] == 11
    assert "didn't confirm" in json.dumps(error)
    assert owned == []
    assert world.left() == NOTHING


class SlowGate(NoPolicy):
    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def admit(self, record: Record) -> None:
        self.reached.set()
        await asyncio.Event().wait()


def test_a_delete_cancels_the_add_of_its_attachment_and_leaves_nothing(world: World) -> None:
    world.policy = gate = SlowGate()

    async def scenario(running: Running) -> tuple[dict[str, object], int, list[str]]:
        await fill(world.store, **POOLS)
        adding = asyncio.ensure_future(running.refused())
        await gate.reached.wait()
        deleted = await running.delete()
        refused = await adding
        await running.node.reaper.reaped()
        return refused, deleted.status, await running.owned()

    error, status, owned = world.run(scenario)
    assert (error["code"], status, owned) == (11, 0, [])
    assert world.left() == NOTHING


R = TypeVar("R", bound=Resource)


class Breakable(MemoryStore):
    """A store that goes away when told."""

    away = False

    async def update(self, resource: R) -> R:
        if self.away:
            raise Unavailable("the datastore is away")
        return await super().update(resource)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        if self.away:
            raise Unavailable("the datastore is away")
        return await super().list(kind, where)


def test_with_the_store_away_a_delete_succeeds_and_is_replayed_and_an_add_is_code_11(world: World) -> None:
    world.store = store = Breakable()

    async def scenario(running: Running) -> None:
        await fill(store, **POOLS)
        await running.add()
        store.away = True
        assert (await running.delete()).status == 0
        assert (await running.delete(container="unrecorded")).status == 0
        await running.node.reaper.reaped()
        assert world.host_ends() == []
        assert (await running.refused(container="c2"))["code"] == 11
        assert (await running.refused(container="c1"))["code"] == 11
        assert await replay(running.node) > 0
        store.away = False
        assert len(await running.owned()) == 2
        assert await replay(running.node) == 0
        assert await running.owned() == []
        await running.add()

    world.run(scenario)
    assert len(list(world.state.glob("journal/*"))) == 0


def test_an_add_that_died_half_way_is_finished_by_the_next_process(world: World) -> None:
    world.policy = gate = SlowGate()

    async def dying(running: Running) -> None:
        await fill(world.store, **POOLS)
        adding = asyncio.ensure_future(running.call("ADD"))
        await gate.reached.wait()
        record = running.node.records.read(ATTACHMENT)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        if record is not None:
            running.node.records.write(record)

    world.run(dying)
    world.policy = NoPolicy()

    async def next_process(running: Running) -> list[str]:
        await running.add()
        owned = await running.owned()
        await running.delete()
        return owned

    assert world.run(next_process) == ["net:c1:eth0", "net:c1:eth0"]


def test_many_pods_come_and_go_without_a_trace(world: World) -> None:
    async def scenario(running: Running) -> tuple[list[str], list[str]]:
        await fill(world.store, **POOLS)
        names = [f"eth{number}" for number in range(40)]
        await asyncio.gather(*(running.add(interface=name, container=name) for name in names))
        owned = await running.owned()
        await asyncio.gather(*(running.delete(interface=name, container=name) for name in names))
        await running.node.reaper.reaped()
        return owned, await running.owned()

    owned, after = world.run(scenario)
    assert (len(owned), after) == (80, [])
    assert world.left() == NOTHING


def test_the_nodes_own_namespace_is_refused(world: World) -> None:
    world.pods[0] = world.namespace

    async def scenario(running: Running) -> dict[str, object]:
        await fill(world.store, **POOLS)
        return await running.refused()

    assert world.run(scenario)["code"] == 8
