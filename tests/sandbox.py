"""Network namespaces for tests: made and removed by the test, inside the run's own sandbox (ci/test.sh)."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from kernel import netns
from kernel.runner import CommandRunner

T = TypeVar("T")
_numbers = count()

REASON = "needs a network namespace of the run's own: start the tests with `make test`"
needs_sandbox = pytest.mark.skipif(not os.environ.get("TORTIE_SANDBOX"), reason=REASON)


class Namespace:
    """One named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        self.runner = CommandRunner(("ip", "netns", "exec", name))

    def run(self, *argv: str, stdin: str = "") -> str:
        return self.runner.run(argv, stdin)

    def ip(self, *lines: str) -> None:
        """Lines for `ip -batch`."""
        self.run("ip", "-batch", "-", stdin="\n".join([*lines, ""]))

    def inside(self, work: Callable[[], T]) -> T:
        """`work()` in a thread inside this namespace."""
        fd = netns.open_namespace(self.path)
        try:
            return netns.run_inside(fd, work)
        finally:
            os.close(fd)

    def python(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        """A Python program started inside; the caller ends it."""
        argv: Sequence[str] = ("ip", "netns", "exec", self.name, "python3", "-c", program, *arguments)
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def namespaces(*names: str) -> Iterator[list[Namespace]]:
    """Fresh namespaces, with loopback up, removed at the end."""
    Path("/run/netns").mkdir(exist_ok=True)
    made = [Namespace(f"t{os.getpid()}-{next(_numbers)}-{name}") for name in names]
    runner = CommandRunner()
    try:
        for namespace in made:
            runner.run(("ip", "netns", "add", namespace.name))
            namespace.ip("link set lo up")
        yield made
    finally:
        for namespace in made:
            if Path(namespace.path).exists():
                runner.run(("ip", "netns", "del", namespace.name))
