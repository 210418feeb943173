"""A bell for each kind: watchers sleep until something of their kind was committed.

Rings are counted, so one that comes between a watcher's read and its wait isn't missed. It carries no data: a watcher
that wakes reads the log from its own position, and one that is slow misses nothing and holds nothing up.
"""

import asyncio
from collections.abc import Iterable


class Bell:
    """For one event loop; not for threads."""

    def __init__(self) -> None:
        self._closed = False
        self._rings: dict[str, int] = {}
        self._rings_for_all = 0
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}
        """In the order of their coming, which is the order of waking them: what runs twice alike wakes alike."""

    def is_closed(self) -> bool:
        """Whether nothing will ring any more."""
        return self._closed

    def ring(self, kinds: Iterable[str]) -> None:
        """Wake who waits for one of `kinds`."""
        for kind in kinds:
            self._rings[kind] = self._rings.get(kind, 0) + 1
            self._wake(kind)

    def ring_all(self) -> None:
        """Wake everybody."""
        self._rings_for_all += 1
        for kind in self._waiting:
            self._wake(kind)

    def rings(self, kind: str) -> int:
        """How often it rang for `kind`: ask before reading, and pass it to `wait`."""
        return self._rings.get(kind, 0) + self._rings_for_all

    async def wait(self, kind: str, since: int, timeout_s: float) -> None:
        """Return once it has rung for `kind` more than `since` times, was closed, or `timeout_s` have passed."""
        if self._closed or self.rings(kind) != since:
            return
        waiter = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(kind, {})
        waiting[waiter] = None
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            del waiting[waiter]

    def close(self) -> None:
        """Wake everybody, for good."""
        self._closed = True
        for kind in self._waiting:
            self._wake(kind)

    def _wake(self, kind: str) -> None:
        for waiter in self._waiting.get(kind, ()):
            if not waiter.done():
                waiter.set_result(None)
