"""The relay while its agent is away: it can't read the configuration, but never keeps a pod from being removed."""

import json
import signal
from pathlib import Path

import pytest

from tests.contract.ways import Way, refused, silent, soon
from tests.host import hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_HUNG_S = 15.0
"""A STATUS that waited as long as an ADD may would hold up the runtime's own status."""


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)])
def test_what_needs_the_agent_says_so(down: Way, command: str, code: int) -> None:
    refused(down.call(command, down.pod()), code, "agent")
    assert down.tombstones() == []
    assert down.nothing_left()


@pytest.mark.parametrize("stdin", ["", "no json", '{"name": "net"}'])
def test_it_does_not_judge_the_configuration(down: Way, stdin: str) -> None:
    refused(down.run(down.variables("ADD", down.pod()), stdin), 11)
    refused(down.run({"CNI_COMMAND": "STATUS"}, stdin), 50)


@pytest.mark.parametrize("netns", ["", "/nowhere", "/etc/hostname", "the pod's"])
def test_a_del_succeeds_and_leaves_a_tombstone(down: Way, netns: str) -> None:
    pod = down.pod()
    for wanted in (1, 2):
        assert silent(down.call("DEL", pod, CNI_NETNS=pod.netns if netns == "the pod's" else netns))
        assert len(down.tombstones()) == wanted
    assert all(pod.container.encode() in path.read_bytes() for path in down.tombstones())


def test_a_del_that_can_leave_no_tombstone_says_so(down: Way) -> None:
    folder = down.host.place / "tombstones"
    if folder.exists():
        folder.rmdir()
    folder.write_text("a file in the way")
    try:
        refused(down.call("DEL", down.pod()), 11, "tombstone")
    finally:
        folder.unlink()


def test_the_agent_does_what_tombstones_say_when_it_is_back(tmp_path: Path) -> None:
    with hosts(tmp_path) as host:
        way = Way("relay", host)
        pod, stays = way.pod(), way.pod()
        way.add(pod)
        result = way.add(stays)
        host.stop(signal.SIGKILL)
        assert silent(way.call("DEL", pod))
        host.start()
        assert soon(way.tombstones, []) == []
        assert soon(way.owned, [f"net:{stays.container}:eth0"]) == [f"net:{stays.container}:eth0"]
        assert silent(way.call("CHECK", stays, way.config(prevResult=result)))
        way.close()


@pytest.mark.parametrize("way_id", ["relay", "python"])
def test_an_agent_that_hangs_is_not_available(tmp_path: Path, way_id: str) -> None:
    with hosts(tmp_path) as host:
        way = Way("relay" if way_id == "relay" else "python", host)
        assert host.agent is not None
        host.agent.send_signal(signal.SIGSTOP)
        try:
            said = way.run({"CNI_COMMAND": "STATUS"}, json.dumps(way.config()), limit_s=_HUNG_S)
        finally:
            host.agent.send_signal(signal.SIGCONT)
        refused(said, 50)


def test_an_agent_that_hangs_keeps_no_pod_from_being_removed(tmp_path: Path) -> None:
    with hosts(tmp_path) as host:
        way = Way("relay", host)
        pod = way.pod()
        way.add(pod)
        assert host.agent is not None
        host.agent.send_signal(signal.SIGSTOP)
        try:
            assert silent(way.call("DEL", pod))
        finally:
            host.agent.send_signal(signal.SIGCONT)
        assert way.nothing_left()
        way.close()


def test_python_does_a_del_itself_that_the_relay_would_have_to_leave(alone: Way) -> None:
    pod = alone.pod()
    alone.add(pod)
    assert silent(alone.call("DEL", pod))
    assert alone.tombstones() == []
    assert alone.nothing_left()
