"""A path is a network namespace or a clear error, and nothing is left open."""

import os
from pathlib import Path

import pytest

from kernel import netns
from kernel.errors import NotANamespace
from tests.sandbox import namespaces, needs_sandbox


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("/nonexistent/netns", "No such file", id="nothing there"),
        pytest.param("/etc/hostname", "an ordinary file", id="a file"),
        pytest.param("/tmp", "not a namespace file", id="a folder"),  # noqa: S108
        pytest.param("/dev/null", "not a namespace file", id="a device"),
        pytest.param("/proc/self/ns/mnt", "another kind", id="a mount namespace"),
        pytest.param("", "No such file", id="an empty path"),
        pytest.param("a\0b", "null", id="a path with a NUL"),
    ],
)
def test_what_is_no_network_namespace_is_refused_with_the_reason(path: str, reason: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotANamespace, match=reason):
        netns.open_namespace(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotANamespace):
        netns.open_namespace(str(tmp_path / "fifo"))


@needs_sandbox
@pytest.mark.kernel
def test_work_runs_inside_and_the_caller_stays_outside() -> None:
    with namespaces("other") as [other]:
        fd = netns.open_namespace(other.path)
        inside = netns.run_inside(fd, lambda: os.readlink("/proc/thread-self/ns/net"))
        assert inside == f"net:[{os.fstat(fd).st_ino}]"
        assert os.readlink("/proc/thread-self/ns/net") != inside
        assert not netns.same_namespace(fd)
        assert netns.run_inside(fd, lambda: netns.same_namespace(fd))
        os.close(fd)


def test_what_fails_inside_reaches_the_caller() -> None:
    with open("/proc/thread-self/ns/mnt") as wrong, pytest.raises(OSError, match="setns"):
        netns.run_inside(wrong.fileno(), lambda: None)
