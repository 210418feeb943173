"""Word from the kernel that another process committed.

After each commit its writer touches the database file, which is one event, IN_ATTRIB. The writes that make the commit
are no use as a sign: in a rollback journal most of them come before it, and whoever looks then finds nothing and holds
a lock that the commit waits for; in a WAL all of them do, since the index that makes it visible is shared memory. The
folder is watched, not the file, so that a file that was replaced is heard of. An event says only that something
happened; what did is read from the log. A writer that was killed before its touch, or that isn't ours, is found by the
timer.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from asyncinotify import Inotify, Mask

_MASK = Mask.ATTRIB | Mask.CREATE | Mask.MOVED_TO
_BUFFER = 64 * 1024
"""Bytes: a thousand events; what doesn't fit is read at the next wake-up."""


class FolderWatch:
    """Calls `on_touched` on the event loop when the file is touched, or another takes its name."""

    def __init__(self, path: Path, on_touched: Callable[[], None]) -> None:
        """Begin.

        Raises:
            OSError: no inotify instance is left (fs.inotify.max_user_instances), or the folder is gone.
        """
        self._path = path
        # Names in events end with a NUL. The journal's is another: SQLite, run by root, changes its owner in each
        # transaction, which is an IN_ATTRIB too, and comes too early.
        self._name = os.fsencode(path.name) + b"\0"
        self._on_touched = on_touched
        self._inotify = Inotify()
        try:
            self.look_again()
        except OSError:
            self._inotify.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fd, self._drain)

    def look_again(self) -> None:
        """Watch the folder that has this name now: nothing new unless it was replaced.

        Raises:
            OSError: there is none.
        """
        self._inotify.add_watch(self._path.parent, _MASK)

    def close(self) -> None:
        """Stop."""
        self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()

    def _drain(self) -> None:
        # The raw events: asyncinotify's objects cost 15 us each, and which event it was doesn't matter.
        try:
            events = os.read(self._inotify.fd, _BUFFER)
        except BlockingIOError:
            return
        if self._name in events:
            self._on_touched()
