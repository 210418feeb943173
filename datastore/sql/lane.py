"""A thread that owns a connection, and the event loop's way to it.

Work is queued without a lock of ours and taken in groups: everything that was queued while the last group was worked on
is the next one. The results of a group go back to the loop in one call, since each costs a wake-up.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
W = TypeVar("W")

Results = Callable[[], None]
"""What to run on the loop once a group is done."""


def nothing() -> None:
    """What there is to do after a group, in most lanes."""


class Lane(Generic[W]):
    """Runs `work` on groups of what is put, in order, in a thread of its own; a group has at most `max_group` pieces.

    In that thread too: `after`, once the loop was told the results of a group, and `finish` at the end.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[W]], Results],
        finish: Callable[[], None],
        *,
        max_group: int = 1,
        after: Callable[[], None] = nothing,
    ) -> None:
        self._work = work
        self._max_group = max_group
        self._finish = finish
        self._after = after
        self._queue: SimpleQueue[W | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        # A daemon, so that a program that forgot to close its store can end; what it was told is written is.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, work: W) -> None:
        """Queue a piece of work; not after `close`."""
        self._queue.put(work)

    async def close(self) -> None:
        """Work on what is queued, then end the thread."""
        self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _run(self) -> None:
        try:
            while group := self._next_group():
                self._tell(self._work(group))
                self._after()
        finally:
            self._finish()
            self._tell(self._end)

    def _next_group(self) -> list[W]:
        group: list[W] = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == self._max_group:
                return group
            try:
                item = self._queue.get_nowait()
            except Empty:
                return group
        if group:
            self._queue.put(None)  # the end comes again, after this group
        return group

    def _tell(self, results: Results) -> None:
        try:
            self._loop.call_soon_threadsafe(results)
        except RuntimeError:  # the loop is closed: nobody waits for results
            log.debug("%s ended after its event loop", self._thread.name)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def settle(future: asyncio.Future[T], outcome: T | Exception) -> None:
    """Give a waiting caller its outcome; one that was cancelled waits no more."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
