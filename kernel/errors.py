"""What the kernel, or a program that talks to it, can say no with.

KernelError
├── NetlinkError       the kernel refused one message of a batch
├── CommandFailed      iptables, ipset or ip ended with an error
└── NotANamespace      a path that should be a network namespace isn't one
"""

import errno
import os
from collections.abc import Sequence

_SHOWN = 400
"""Characters of a command's input and output in a message: enough to see the failing line, short enough for a log."""


class KernelError(Exception):
    """Every error of this package."""


class NetlinkError(KernelError):
    """The kernel refused message `what` with errno `code`; messages before it in the batch were applied."""

    def __init__(self, what: str, code: int, explanation: str = "") -> None:
        reason = explanation or os.strerror(code)
        super().__init__(f"{what}: {reason} ({errno.errorcode.get(code, code)})")
        self.what = what
        self.code = code


class CommandFailed(KernelError):
    """A command ended with `returncode`; carries what is needed to run it again by hand."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str, stdin: str) -> None:
        shown = stderr.strip()[:_SHOWN] or "no message"
        super().__init__(f"{' '.join(argv)} ended with {returncode}: {shown}")
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr
        self.stdin = stdin


class NotANamespace(KernelError):
    """`path` is not a network namespace; `reason` says what it is."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r} is no network namespace: {reason}")
        self.path = path
        self.reason = reason
