"""A process is known by pid and start time, and only just that one is ended."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from kernel.process import Process, in_mount_namespaces, mount_namespace
from tests.sandbox import needs_sandbox


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(("sleep", "60")) as process:
        yield process
        process.kill()


def is_alive(process: Process) -> bool:
    """Asked each time: a type checker takes a property for what doesn't change."""
    return process.alive


def test_a_process_lives_until_it_has_ended_as_a_zombie_too(sleeper: "subprocess.Popen[bytes]") -> None:
    process = Process.of(sleeper.pid)
    assert is_alive(process)
    process.end(signal.SIGTERM)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process), "a zombie"
    sleeper.wait()
    assert not is_alive(process)
    process.end()


def test_another_process_with_the_pid_is_left_alone(sleeper: "subprocess.Popen[bytes]") -> None:
    now = Process.of(sleeper.pid)
    Process(now.pid, now.start - 1).end()
    assert now.alive
    assert not Process(now.pid, now.start - 1).alive


def test_a_name_with_parentheses_and_spaces_does_not_confuse(tmp_path: "os.PathLike[str]") -> None:
    program = os.path.join(tmp_path, "a) b (c")
    os.symlink("/bin/sleep", program)
    with subprocess.Popen((program, "60")) as running:
        assert Process.of(running.pid).alive
        running.kill()


def test_no_process_is_said_so(sleeper: "subprocess.Popen[bytes]") -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ProcessLookupError, match=str(sleeper.pid)):
        Process.of(sleeper.pid)


@needs_sandbox
def test_processes_of_a_mount_namespace_are_found_and_no_others(sleeper: "subprocess.Popen[bytes]") -> None:
    with subprocess.Popen(("unshare", "-m", "sleep", "60")) as inside:
        while mount_namespace(inside.pid) == mount_namespace(os.getpid()):
            os.sched_yield()
        found = {process.pid for process in in_mount_namespaces(frozenset({mount_namespace(inside.pid)}))}
        assert found == {inside.pid}
        inside.kill()
