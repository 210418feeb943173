"""One holder of a handle at a time, across tasks and processes, and an intent that outlives its holder."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipam.errors import HandleBusy
from ipam.handles import Handles, is_held, lock_of

HOLD_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from ipam.handles import Handles

async def main():
    async with Handles(Path(sys.argv[1])).hold(sys.argv[2]) as hold:
        if sys.argv[3] == "intend":
            hold.intend()
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


async def test_what_was_sent_is_there_for_the_next_holder_until_somebody_settles(tmp_path: Path) -> None:
    handles = Handles(tmp_path)
    async with handles.hold("net:c1:eth0") as hold:
        assert hold.sent() == ()
        hold.sending("10-65-0-0-26", "00000000000000aa")
    async with handles.hold("net:c1:eth0") as hold:
        assert hold.sent() == (("10-65-0-0-26", "00000000000000aa"),)
        hold.intend()
        hold.sending("10-65-0-64-26", "00000000000000bb")
        assert hold.sent() == (("10-65-0-0-26", "00000000000000aa"), ("10-65-0-64-26", "00000000000000bb"))
    assert handles.abandoned() == ["net:c1:eth0"]
    async with handles.hold("net:c1:eth0") as hold:
        hold.settle()
        assert hold.sent() == ()
    assert list(tmp_path.iterdir()) == []


async def test_two_tasks_hold_one_handle_in_turn(tmp_path: Path) -> None:
    handles, order = Handles(tmp_path), []

    async def work(name: str) -> None:
        async with handles.hold("a"):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(work("first"), work("second"), work("third"))
    assert order == ["first in", "first out", "second in", "second out", "third in", "third out"]


async def test_different_handles_do_not_wait(tmp_path: Path) -> None:
    handles = Handles(tmp_path)
    async with handles.hold("a"), handles.hold("b"):
        pass


async def test_a_hold_without_intent_leaves_nothing(tmp_path: Path) -> None:
    async with Handles(tmp_path).hold("a") as hold:
        assert not hold.uncertain
    assert list(tmp_path.iterdir()) == []


async def test_an_intent_that_was_not_settled_is_there_for_the_next_holder_until_it_settles(tmp_path: Path) -> None:
    handles = Handles(tmp_path)
    async with handles.hold("a") as hold:
        hold.intend()
    for _ in range(2):
        async with handles.hold("a") as hold:
            assert hold.uncertain
    async with handles.hold("a") as hold:
        hold.settle()
    async with handles.hold("a") as hold:
        assert not hold.uncertain
    assert list(tmp_path.iterdir()) == []


async def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    handles = Handles(tmp_path, wait_s=0.05)
    async with handles.hold("a"):
        with pytest.raises(HandleBusy, match="a is still under way"):
            async with handles.hold("a"):
                pass
    async with handles.hold("a"):
        pass


async def test_a_long_hold_is_not_cut_off_by_the_limit_on_waiting(tmp_path: Path) -> None:
    async with Handles(tmp_path, wait_s=0.02).hold("a"):
        await asyncio.sleep(0.06)


@pytest.mark.parametrize("intend", [True, False])
async def test_another_process_is_waited_for_and_what_it_left_when_killed_is_seen(tmp_path: Path, intend: bool) -> None:
    argv = [sys.executable, "-c", HOLD_AND_WAIT, str(tmp_path), "a", "intend" if intend else "no"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        if other.stdout is None:
            pytest.fail("no pipe")
        assert other.stdout.readline() == "held\n"
        with pytest.raises(HandleBusy):
            async with Handles(tmp_path, wait_s=0.05).hold("a"):
                pass
        other.kill()
        other.wait()
        async with Handles(tmp_path).hold("a") as hold:
            assert hold.uncertain is intend
            hold.settle()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("intend", [True, False])
async def test_what_killed_holders_left_is_told_once_nobody_holds_it(tmp_path: Path, intend: bool) -> None:
    argv = [sys.executable, "-c", HOLD_AND_WAIT, str(tmp_path), "a", "intend" if intend else "no"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        if other.stdout is None:
            pytest.fail("no pipe")
        assert other.stdout.readline() == "held\n"
        assert is_held(lock_of(tmp_path, "a"))
        assert Handles(tmp_path).abandoned() == []
        other.kill()
        other.wait()
    assert not is_held(lock_of(tmp_path, "a"))
    assert Handles(tmp_path).abandoned() == (["a"] if intend else [])
    assert len(list(tmp_path.iterdir())) == (1 if intend else 0)


async def test_a_look_at_a_handle_keeps_nobody_from_it(tmp_path: Path) -> None:
    assert not is_held(lock_of(tmp_path, "a"))
    async with Handles(tmp_path).hold("a", wait_s=0) as hold:
        assert is_held(lock_of(tmp_path, "a"))
        assert is_held(lock_of(tmp_path, "a"))
        hold.settle()
    assert list(tmp_path.iterdir()) == []


async def test_a_lock_won_on_a_file_that_was_removed_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our open and our flock the holder removes its file, and somebody else makes and locks a new one."""
    really, others = fcntl.flock, list[int]()

    def flock(fd: int, operation: int) -> None:
        if not others:
            (path,) = tmp_path.iterdir()
            path.unlink()
            others.append(os.open(path, os.O_RDWR | os.O_CREAT))
            really(others[0], fcntl.LOCK_EX)
        really(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(HandleBusy):
        async with Handles(tmp_path, wait_s=0.05).hold("a"):
            pass
    os.close(others[0])


async def test_many_holders_in_many_processes_never_meet(tmp_path: Path) -> None:
    program = """
import asyncio, os, sys
from pathlib import Path
from ipam.handles import Handles

async def main():
    handles, counter = Handles(Path(sys.argv[1]) / "locks"), Path(sys.argv[1]) / "counter"
    for _ in range(60):
        async with handles.hold("a"):
            seen = int(counter.read_text())
            await asyncio.sleep(0)
            counter.write_text(str(seen + 1))

asyncio.run(main())
"""
    (tmp_path / "counter").write_text("0")
    argv = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(argv) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "counter").read_text() == "240"


async def test_abandoned_locks_say_whose_writes_may_be_in_flight_and_those_that_say_nothing_go(tmp_path: Path) -> None:
    handles = Handles(tmp_path)
    async with handles.hold("net:unsettled:eth0") as hold:
        hold.intend()
    (tmp_path / "empty").touch()
    async with handles.hold("net:held:eth0") as hold:
        hold.intend()
        assert handles.abandoned() == ["net:unsettled:eth0"]
        assert len(list(tmp_path.iterdir())) == 2
