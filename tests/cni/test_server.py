"""The whole way in: the relay (C) and `python -I -m cni` as processes, against a server on the real kernel."""

import asyncio
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from cni import removals
from cni.node import Node
from cni.records import Record
from cni.result import SUPPORTED_VERSIONS
from cni.server import Server
from cni.standalone import NoPolicy
from cni.tombstones import Tombstones
from kernel.batch import NetlinkSocket
from tests.cni.node import CONFIG, Running, Stubborn, World, descriptors, fill, worlds
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
T = TypeVar("T")
RELAY = Path(__file__).parents[2] / "build" / "cni" / "tortie"
WAYS = {"relay": [str(RELAY)], "python": [sys.executable, "-I", "-m", "cni"]}
POOLS = {"v4": "10.65.0.0/16", "v6": "fd65::/48"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path) as made:
        yield made


@pytest.fixture(params=[pytest.param(way, id=name) for name, way in WAYS.items()])
def way(request: pytest.FixtureRequest) -> list[str]:
    found: list[str] = request.param
    return found


def environment(world: World, command: str, **changes: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": world.pods[0].path,
        "CNI_IFNAME": "eth0",
        "TORTIE_CNI_SOCKET": str(world.state / "cni.sock"),
        "PATH": os.environ["PATH"],
        **changes,
    }


async def execute(way: list[str], env: dict[str, str], stdin: bytes | None = None) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(*way, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stdout, _ = await process.communicate(json.dumps(CONFIG).encode() if stdin is None else stdin)
    return process.returncode or 0, stdout


def served(world: World, scenario: Callable[[Running], Awaitable[T]]) -> T:
    async def with_server(running: Running) -> T:
        await fill(world.store, **POOLS)
        server = Server(running.plugin, world.state / "cni.sock")
        await server.start()
        try:
            return await scenario(running)
        finally:
            await server.close()

    return world.run(with_server)


def test_add_and_delete_by_exec(world: World, way: list[str]) -> None:
    async def scenario(running: Running) -> tuple[int, bytes, list[str], int, bytes, list[str]]:
        added = await execute(way, environment(world, "ADD"))
        owned = await running.owned()
        deleted = await execute(way, environment(world, "DEL", CNI_NETNS=""))
        await removals.ended(running.node)
        return *added, owned, *deleted, await running.owned()

    status, stdout, owned, status_del, stdout_del, owned_after = served(world, scenario)
    assert status == 0
    assert [ip["interface"] for ip in json.loads(stdout)["ips"]] == [1, 1]
    assert json.loads(stdout)["interfaces"][1]["sandbox"] == world.pods[0].path
    assert owned == ["net:c1:eth0"] * 2
    assert (status_del, stdout_del, owned_after) == (0, b"", [])


@pytest.mark.parametrize(
    ("changes", "stdin", "code", "said"),
    [
        pytest.param({"CNI_NETNS": "/nonexistent"}, None, 8, "No such file", id="a namespace that isn't there"),
        pytest.param({"CNI_NETNS": "/etc/hostname"}, None, 8, "/etc/hostname", id="a file that is no namespace"),
        pytest.param({}, b"{", 6, "JSON", id="a configuration that is no JSON"),
        pytest.param({"CNI_ARGS": "K8S_POD_NAME=a;$(id)"}, None, 4, "CNI_ARGS", id="a command among the arguments"),
        pytest.param({"CNI_COMMAND": "FROB"}, None, 4, "FROB", id="an unknown command"),
    ],
)
def test_bad_input_is_one_error_object_and_leaves_nothing(
    world: World, way: list[str], changes: dict[str, str], stdin: bytes | None, code: int, said: str
) -> None:
    async def scenario(running: Running) -> tuple[int, bytes, list[str]]:
        status, stdout = await execute(way, environment(world, "ADD", **changes), stdin)
        return status, stdout, await running.owned()

    status, stdout, owned = served(world, scenario)
    error = json.loads(stdout)
    assert status != 0
    assert error["code"] == code
    assert said in f"{error['msg']} {error['details']}"
    assert owned == []
    assert world.host_ends() == []


def test_version_needs_no_agent_and_no_input(world: World, way: list[str]) -> None:
    async def scenario(_running: Running) -> tuple[int, bytes]:
        return await execute(way, environment(world, "VERSION", CNI_NETNS="dummy"), b"")

    status, stdout = world.run(scenario)
    assert status == 0
    assert json.loads(stdout)["supportedVersions"] == list(SUPPORTED_VERSIONS)


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("STATUS", 50), ("CHECK", 11), ("GC", 11)])
def test_without_an_agent_the_relay_says_what_to_do(world: World, command: str, code: int) -> None:
    async def scenario(_running: Running) -> tuple[int, bytes]:
        return await execute(WAYS["relay"], environment(world, command))

    status, stdout = world.run(scenario)
    assert (status, json.loads(stdout)["code"]) == (1, code)
    assert "is tortie-agent running" in json.loads(stdout)["details"]


def test_a_delete_without_an_agent_leaves_a_tombstone_that_the_agent_carries_out(world: World) -> None:
    async def attached(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.add()

    world.run(attached)

    async def without_agent(_running: Running) -> tuple[int, bytes]:
        return await execute(WAYS["relay"], environment(world, "DEL"))

    assert world.run(without_agent) == (0, b"")

    async def next_agent(running: Running) -> tuple[int, list[str]]:
        return await Tombstones(world.state / "cni.sock").replay(running.node), await running.owned()

    assert world.run(next_agent) == (0, [])
    assert list((world.state / "tombstones").iterdir()) == []


def test_an_add_carries_out_its_own_tombstone_first(world: World) -> None:
    async def scenario(running: Running) -> tuple[list[str], int]:
        await fill(world.store, **POOLS)
        await running.add()
        await execute(WAYS["relay"], environment(world, "DEL"))
        await running.add()
        return await running.owned(), len(list((world.state / "tombstones").iterdir()))

    owned, left = world.run(scenario)
    assert (owned, left) == (["net:c1:eth0"] * 2, 0)


def test_half_of_a_tombstone_goes_once_its_relay_cannot_be_writing_it_any_more(world: World) -> None:
    folder = world.state / "tombstones"
    folder.mkdir()
    for name in ("new.del.tmp", "old.del.tmp"):
        (folder / name).write_bytes(b"CNI_COMMA")
    os.utime(folder / "old.del.tmp", (time.time() - 60, time.time() - 60))

    async def scenario(running: Running) -> None:
        await Tombstones(world.state / "cni.sock").replay(running.node)

    world.run(scenario)
    assert [path.name for path in folder.iterdir()] == ["new.del.tmp"]


def test_a_tombstone_that_was_carried_out_while_its_handle_was_busy_is_not_carried_out_again(world: World) -> None:
    async def scenario(running: Running) -> tuple[list[str], int]:
        await fill(world.store, **POOLS)
        await running.add()
        await execute(WAYS["relay"], environment(world, "DEL"))
        tombstones = Tombstones(world.state / "cni.sock")
        async with running.node.handles.hold("net:c1:eth0"):
            replaying = asyncio.ensure_future(tombstones.replay(running.node))
            await asyncio.sleep(0.1)  # it has listed the tombstone and waits for the handle
            for path in world.state.glob("tombstones/*"):
                path.unlink()  # as an ADD of the same attachment does that came first
        left = await replaying
        return await running.owned(), left

    assert world.run(scenario) == (["net:c1:eth0"] * 2, 0)


def test_an_add_whose_tombstone_cannot_be_carried_out_is_told_to_come_again(world: World) -> None:
    async def scenario(running: Running) -> dict[str, object]:
        await fill(world.store, **POOLS)
        await running.add()
        await execute(WAYS["relay"], environment(world, "DEL"))
        links = running.node.links
        with closing(NetlinkSocket.open()) as sock:
            running.node.links = Stubborn(sock, sock)
            refused = await running.refused()
        running.node.links = links
        return refused

    refused = world.run(scenario)
    assert (refused["code"], "still owed" in str(refused["msg"])) == (11, True)


def test_a_server_without_descriptors_answers_once_there_are_some_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(running: Running) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        command = ["sh", "-c", 'sleep 0.2; exec "$0"', *WAYS["relay"]]
        asking = asyncio.ensure_future(execute(command, environment(world, "STATUS")))
        await asyncio.sleep(0.1)  # the process is there, and has not called yet
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # those that are open stay so
        await asyncio.sleep(0.3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        status, _ = await asking
        return status

    assert served(world, scenario) == 0
    assert "no call can be accepted" in caplog.text


def test_a_server_that_closes_ends_a_call_that_does_not_end_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni.server._FINISH_S", 0.1)

    class Never(NoPolicy):
        reached = asyncio.Event()

        async def admit(self, record: Record) -> None:
            self.reached.set()
            await asyncio.Event().wait()

    world.policy = gate = Never()

    async def scenario(running: Running) -> tuple[int, bytes, list[str]]:
        await fill(world.store, **POOLS)
        server = Server(running.plugin, world.state / "cni.sock")
        await server.start()
        adding = asyncio.ensure_future(execute(WAYS["relay"], environment(world, "ADD")))
        await gate.reached.wait()
        async with asyncio.timeout(10):
            await server.close()
        return *(await adding), await running.owned()

    status, _, owned = world.run(scenario)
    assert (status, owned) == (1, [])


def test_status_is_for_configurations_of_its_version(world: World) -> None:
    async def scenario(running: Running) -> list[int]:
        await fill(world.store, v4="10.65.0.0/24", v6="fd65::/112")
        told = [await running.call("STATUS", cniVersion=version) for version in ("1.0.0", "1.1.0")]
        return [output.status and json.loads(output.stdout)["code"] for output in told]

    assert world.run(scenario) == [1, 0]


def test_what_is_no_tombstone_is_removed_and_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    folder = world.state / "tombstones"
    folder.mkdir()
    (folder / "1.del").write_bytes(b"rubbish")

    async def scenario(running: Running) -> int:
        return await Tombstones(world.state / "cni.sock").replay(running.node)

    assert world.run(scenario) == 0
    assert list(folder.iterdir()) == []
    assert "1.del" in caplog.text


class SlowGate(NoPolicy):
    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def admit(self, record: Record) -> None:
        self.reached.set()
        await asyncio.Event().wait()


def test_a_relay_that_is_killed_undoes_its_add(world: World, way: list[str]) -> None:
    world.policy = gate = SlowGate()

    async def scenario(running: Running) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            *way, env=environment(world, "ADD"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if process.stdin is None:
            pytest.fail("no pipe")
        process.stdin.write(json.dumps(CONFIG).encode())
        process.stdin.close()
        await gate.reached.wait()
        process.kill()
        await process.wait()
        await settled(running.node)
        return await running.owned()

    assert served(world, scenario) == []
    assert world.left()["links"] == []


async def settled(node: Node) -> None:
    """Until no record and no journal entry is left."""
    async with asyncio.timeout(20):
        while any(True for _ in node.records.all()) or any(True for _ in node.records.unfinished()):
            await asyncio.sleep(0.01)
    await node.reaper.reaped()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xff\xff\xff", id="too long"),
        pytest.param(struct.pack("=I", 5) + b"A=B\0x", id="no end of the environment"),
        pytest.param(struct.pack("=I", 50) + b"A=B\0", id="cut off"),
    ],
)
def test_a_connection_that_is_no_relay_is_closed_and_the_next_is_served(world: World, frame: bytes) -> None:
    async def scenario(running: Running) -> list[str]:
        reader, writer = await asyncio.open_unix_connection(str(world.state / "cni.sock"))
        writer.write(frame)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await execute(WAYS["relay"], environment(world, "ADD"))
        return await running.owned()

    assert len(served(world, scenario)) == 2


def test_descriptors_do_not_pile_up(world: World) -> None:
    async def scenario(_running: Running) -> tuple[int, int]:
        async def once() -> None:
            for command in ("ADD", "DEL"):
                await execute(WAYS["relay"], environment(world, command))
            await execute(WAYS["relay"], environment(world, "ADD", CNI_ARGS="bad"))

        await once()
        before = descriptors()
        for _ in range(5):
            await once()
        return before, descriptors()

    before, after = served(world, scenario)
    assert after == before


def test_the_socket_is_for_its_owner_alone_and_replaces_a_dead_one(world: World) -> None:
    path = world.state / "cni.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scenario(_running: Running) -> int:
        return (await execute(WAYS["relay"], environment(world, "STATUS")))[0]

    assert served(world, scenario) == 0
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def tomorrows(tmp_path: Path) -> list[str]:
    """A relay that speaks otherwise than this agent."""
    made, source = tmp_path / "relay" / "tortie", Path(__file__).parents[2] / "cni" / "relay.c"
    made.parent.mkdir()
    subprocess.run((os.environ.get("CC", "cc"), '-DPROTOCOL="2"', "-o", made, source), check=True)
    return [str(made)]


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("CHECK", 11), ("STATUS", 50), ("GC", 11)])
def test_a_relay_of_another_protocol_is_told_what_to_do(
    world: World, tomorrows: list[str], command: str, code: int
) -> None:
    async def scenario(running: Running) -> tuple[int, bytes, str, list[str]]:
        said = await execute(tomorrows, environment(world, command))
        return *said, running.plugin.other_relay, await running.owned()

    status, stdout, noted, owned = served(world, scenario)
    error = json.loads(stdout)
    assert (status, error["code"], owned, world.left()["links"]) == (1, code, [], [])
    assert "speaks protocol '2', this agent 1" in error["details"]
    assert "kubectl -n tortie-system rollout restart daemonset/tortie-agent" in error["details"]
    assert noted == error["details"]


def test_a_relay_of_another_protocol_removes_pods_all_the_same(world: World, tomorrows: list[str]) -> None:
    async def scenario(running: Running) -> tuple[tuple[int, bytes], list[str], str]:
        await execute(WAYS["relay"], environment(world, "ADD"))
        deleted = await execute(tomorrows, environment(world, "DEL"))
        await removals.ended(running.node)
        owned = await running.owned()
        await execute(WAYS["relay"], environment(world, "STATUS"))
        return deleted, owned, running.plugin.other_relay

    assert served(world, scenario) == ((0, b""), [], "")
