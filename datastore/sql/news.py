"""Who rings the bell: this process's commits at once, other processes' after a look at the log.

    own commit     -> announce -> ring its kinds       numbers without a gap: nobody else wrote in between
                                  else look
    inotify, timer -> look     -> read kinds after `seen` -> ring them

Our own commits touch the folder too. So that each doesn't cost a look at the log, a look waits `SETTLE_S` if one of
ours has just ended, and serves for all that follow; a process that only watches looks at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from datastore.bell import Bell
from datastore.errors import StoreError
from datastore.revisions import History
from datastore.sql.folder import FolderWatch
from datastore.sql.writes import Committed

log = logging.getLogger(__name__)

SETTLE_S = 0.005
"""How long after our own commit others' commits may wait to be seen."""
TIMER_S = 5.0
"""Seconds between looks that nothing asked for: inotify may overflow, and knows nothing of some file systems."""
TIMER_ALONE_S = 0.2
"""The same where there is no inotify."""

Look = Callable[[int], Awaitable[tuple[History, frozenset[str]]]]
"""How far the log reaches, and the kinds of its entries after a number."""


class News:
    """Rings `bell`; begins with `start` and ends with `close`."""

    def __init__(self, path: Path, look: Look, bell: Bell) -> None:
        self._path = path
        self._look = look
        self._bell = bell
        self._seen = History("", 0, 0)
        self._touched = asyncio.Event()
        self._folder: FolderWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._own_until = 0.0

    @property
    def source(self) -> str:
        """Where word of other processes' commits comes from."""
        if self._task is None:
            return "nowhere: nothing is watched"
        return "inotify" if self._folder else "timer"

    def start(self) -> None:
        """Begin to look, unless that has begun."""
        if self._task is not None:
            return
        try:
            self._folder = FolderWatch(self._path, self._touched.set)
        except OSError as error:
            log.warning("other processes' writes to %s are looked for by a timer: %s", self._path, error)
        self._touched.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tortie-sqlite-news")

    def announce(self, done: Committed) -> None:
        """Ring for a commit of this process."""
        self._own_until = asyncio.get_running_loop().time() + SETTLE_S
        if (done.identity, done.first) == (self._seen.identity, self._seen.newest + 1):
            self._seen = History(done.identity, self._seen.compacted, done.last)
        else:
            self._touched.set()
        self._bell.ring(done.kinds)

    async def close(self) -> None:
        """Stop looking."""
        if self._folder:
            self._folder.close()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TIMER_S if self._folder else TIMER_ALONE_S):
                    await self._touched.wait()
            except TimeoutError:
                self._follow_the_folder()
            if asyncio.get_running_loop().time() < self._own_until:
                await asyncio.sleep(SETTLE_S)
            self._touched.clear()
            try:
                self._ring_for(*await self._look(self._seen.newest))
            except StoreError as error:
                # Watchers are told when they read; here it is one look of many.
                log.debug("could not look for news in %s: %s", self._path, error)
                await asyncio.sleep(TIMER_ALONE_S)
                self._touched.set()

    def _ring_for(self, reach: History, kinds: frozenset[str]) -> None:
        same_store = reach.identity == self._seen.identity
        if same_store and reach.newest < self._seen.newest:
            return  # older than a commit of ours that was announced during the look
        self._seen = reach
        if same_store:
            self._bell.ring(kinds)
        else:
            self._bell.ring_all()

    def _follow_the_folder(self) -> None:
        if self._folder:
            with suppress(OSError):
                self._folder.look_again()
