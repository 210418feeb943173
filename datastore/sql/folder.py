"""Word from the kernel that another process wrote to the database.

The folder is watched, not the file: a commit ends with the truncation of the -journal file, or after the write to the
-wal file with a touch of the database (see `writer`), and the two come and go. The events say only that something
happened; what did is read from the log.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from asyncinotify import Inotify, Mask

_MASK = Mask.MODIFY | Mask.ATTRIB | Mask.CREATE | Mask.MOVED_TO
_BUFFER = 64 * 1024
"""Bytes: more events than the kernel merges during one commit; what doesn't fit is read at the next wake-up."""


class FolderWatch:
    """Calls `on_touched` on the event loop when a file whose name begins with `path`'s is written."""

    def __init__(self, path: Path, on_touched: Callable[[], None]) -> None:
        """Begin.

        Raises:
            OSError: no inotify instance is left (fs.inotify.max_user_instances), or the folder is gone.
        """
        self._path = path
        self._name = os.fsencode(path.name)
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
        # The raw events: asyncinotify's objects cost 15 us each, and a commit makes a dozen.
        try:
            events = os.read(self._inotify.fd, _BUFFER)
        except BlockingIOError:
            return
        if self._name in events:
            self._on_touched()
