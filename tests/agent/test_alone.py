"""Two agents with one state folder: the second waits for the first to end, and then says who must go."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.alone import NAME, NotAlone, alone
from tests.host import RELAY, Host, hosts
from tests.sandbox import needs_sandbox

CONFIG = {"cniVersion": "1.0.0", "name": "tortie", "type": "tortie"}


def test_the_first_is_alone_and_the_second_says_what_to_look_at(tmp_path: Path) -> None:
    first = asyncio.run(alone(tmp_path))
    with pytest.raises(NotAlone, match=f"{tmp_path / NAME}; one of the two must go: .*kubectl get daemonsets"):
        asyncio.run(alone(tmp_path, wait_s=0.2))
    os.close(first)
    os.close(asyncio.run(alone(tmp_path, wait_s=0)))


def test_an_agent_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    async def replaced() -> int:
        first = await alone(tmp_path)
        asyncio.get_running_loop().call_later(0.2, os.close, first)
        return await alone(tmp_path)

    os.close(asyncio.run(replaced()))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with hosts(tmp_path) as host:
        yield host


@needs_sandbox
@pytest.mark.kernel
@pytest.mark.skipif(not RELAY.exists(), reason="there is no relay: make relay")
def test_a_second_agent_leaves_the_first_its_sockets_and_its_node(host: Host) -> None:
    first = host.agent
    second = host.begin()
    try:
        assert second.wait(60) == 1
    finally:
        second.kill()
        host.agent = first
    assert "another tortie-agent serves this node already" in host.log()
    pod = host.pod()
    said = host.call("ADD", CONFIG, netns=f"/run/netns/{pod.name}")
    assert said.status == 0, said.out
    assert host.call("DEL", CONFIG, netns=f"/run/netns/{pod.name}").status == 0


@needs_sandbox
@pytest.mark.kernel
def test_an_agent_that_was_killed_keeps_nobody_waiting(host: Host) -> None:
    host.stop(signal.SIGKILL)
    host.start()
    assert "waiting for another agent" not in host.log()
