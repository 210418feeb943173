"""An ADD whose answer nobody takes is undone: a runtime that died then never sends the DEL."""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cni import removals
from cni.request import Request, pack
from cni.server import Server
from kernel import netns
from kernel.batch import NetlinkSocket
from tests.cni.node import CONFIG, Running, World, fill, worlds
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
T = TypeVar("T")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path, pods=1) as made:
        yield made


def served(world: World, scenario: Callable[[Running], Awaitable[T]]) -> T:
    async def with_server(running: Running) -> T:
        await fill(world.store, v4="10.65.0.0/16", v6="fd65::/48")
        server = Server(running.plugin, world.state / "cni.sock")
        await server.start()
        try:
            return await scenario(running)
        finally:
            await server.close()
            await removals.ended(running.node)

    return world.run(with_server)


def environment(world: World) -> dict[str, str]:
    names = {"CNI_CONTAINERID": "c1", "CNI_NETNS": world.pods[0].path, "CNI_IFNAME": "eth0"}
    return {"CNI_COMMAND": "ADD", **names}


def descriptors(world: World) -> tuple[int, int]:
    """What the relay passes: the pod's namespace, and a netlink socket inside."""
    fd = netns.open_namespace(world.pods[0].path)
    return fd, netns.run_inside(fd, NetlinkSocket.open).detach()


async def ask(world: World, *, deaf: bool) -> bytes:
    """An ADD, as the relay sends it; a deaf caller is there until the server gives up on it, and takes no answer."""
    with socket.socket(socket.AF_UNIX) as relay:
        relay.connect(str(world.state / "cni.sock"))
        if deaf:
            relay.shutdown(socket.SHUT_RD)
        payload, fds = pack(environment(world), json.dumps(CONFIG).encode()), descriptors(world)
        socket.send_fds(relay, [struct.pack("=I", len(payload)) + payload], list(fds))
        for fd in fds:
            os.close(fd)
        relay.setblocking(False)
        if not deaf:
            return await asyncio.get_running_loop().sock_recv(relay, 1 << 16)
        async with asyncio.timeout(20):
            while not _is_closed(relay):
                await asyncio.sleep(0.01)
    return b""


def _is_closed(relay: socket.socket) -> bool:
    try:
        relay.send(b"")
    except OSError:
        return True
    return False


def test_an_add_whose_answer_nobody_takes_is_undone(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await ask(world, deaf=True)
        await removals.ended(running.node)
        return await running.owned()

    assert served(world, scenario) == []
    assert world.left()["links"] == []


def test_an_attachment_that_was_there_stays_when_nobody_takes_the_answer_about_it(world: World) -> None:
    async def scenario(running: Running) -> tuple[bytes, list[str]]:
        answer = await ask(world, deaf=False)
        await ask(world, deaf=True)
        return answer, await running.owned()

    answer, owned = served(world, scenario)
    assert b"10.65." in answer
    assert len(owned) == 2
    assert len(world.host_ends()) == 1


def test_what_another_add_was_answered_with_meanwhile_stays(world: World) -> None:
    async def scenario(running: Running) -> int:
        request = Request(environment(world), json.dumps(CONFIG).encode(), descriptors(world))
        first = await running.plugin.run(request)
        second = await running.call("ADD")
        await running.plugin.unheard(request, first)
        request.close()
        assert second.status == 0
        return len(await running.owned())

    assert served(world, scenario) == 2
    assert len(world.host_ends()) == 1
