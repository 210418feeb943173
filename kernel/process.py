"""Processes known by pid and start time: a pid alone may be somebody else's by the time it is used.

Source: proc(5), /proc/PID/stat field 22 (starttime, clock ticks since boot); pidfd_open(2).
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_FIELD = 22


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot."""

    pid: int
    start: int
    """Clock ticks since boot."""

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has this pid now.

        Raises:
            ProcessLookupError: there is none.
        """
        start = _start_of(pid)
        if start is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, start)

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie doesn't)."""
        return _start_of(self.pid) == self.start

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to just this process; one that has ended is fine.

        Raises:
            PermissionError: it is another user's.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def in_mount_namespaces(inodes: frozenset[int]) -> Iterator[Process]:
    """Every process that this user may look at and that is in one of these mount namespaces."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if mount_namespace(int(entry.name)) in inodes:
                yield Process.of(int(entry.name))


def mount_namespace(pid: int) -> int:
    """The inode of a process's mount namespace.

    Raises:
        OSError: there is no such process, or this user may not look.
    """
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def _start_of(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name, in parentheses, may hold spaces and parentheses of its own.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[_START_FIELD - 3])
