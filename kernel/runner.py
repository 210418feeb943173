"""Running iptables, ipset and ip: argv lists and text on stdin, never a shell.

`Runner` is what the drivers see; `kernel.fake.FakeKernel` is one too, and understands the same commands.
"""

import os
import subprocess
from collections.abc import Sequence
from typing import Protocol

from kernel.errors import CommandFailed

_LIMIT_S = 60
"""A command that waits for the xtables lock gives up by itself after 10 s; this bounds everything else."""
_NOT_FOUND = 127
_TOO_LONG = 124


class Runner(Protocol):
    """Runs a command to its end."""

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """Its stdout.

        Raises:
            CommandFailed: it ended with an error, isn't installed, or took longer than a minute.
        """
        ...


class CommandRunner:
    """Runs real commands, in the caller's namespaces or behind a `prefix` such as nsenter with its arguments."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = tuple(prefix)
        # Output is parsed, so no translations; Debian's users have no sbin in PATH.
        self._environment = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C"}

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """See `Runner.run`."""
        command = (*self._prefix, *argv)
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, check=False, timeout=_LIMIT_S,
                env=self._environment,
            )  # fmt: skip
        except FileNotFoundError:
            raise CommandFailed(command, _NOT_FOUND, "not installed", stdin) from None
        except subprocess.TimeoutExpired:
            raise CommandFailed(command, _TOO_LONG, f"no end after {_LIMIT_S} s", stdin) from None
        if done.returncode:
            raise CommandFailed(command, done.returncode, done.stderr, stdin)
        return done.stdout
