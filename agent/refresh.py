"""Looking whether the kernel still is as we left it: on a timer, and soon after something in it has changed.

Changes of routes, links and tables are heard of (`kernel.netlink`, `kernel.changes`), those of sets aren't: they wait
for the timer. Much of what is heard of we did ourselves; the comparison says what really differs, and mends it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from kernel.errors import KernelError

log = logging.getLogger(__name__)

_SETTLE_S = 0.3
"""How long to wait for what else changes: programs change rules in several steps."""
_APART_S = 1.0
"""The least time between two comparisons of one thing: somebody who changes rules all the time mustn't keep us busy."""

Look = Callable[[], Awaitable[tuple[str, ...]]]
"""Compares one thing with the kernel, mends it, and gives what differed, in words."""


class Refresher:
    """Keeps one thing repaired; `run` it as a task."""

    def __init__(self, what: str, look: Look, changes: AsyncIterator[object], every_s: float) -> None:
        self.repairs = 0
        """Differences found and mended since the start."""
        self.what = what
        self._look = look
        self._changes = changes
        self._every_s = every_s
        self._asked = asyncio.Event()
        self.on_repaired: Callable[[Sequence[str]], None] = lambda found: None
        """Told of what was mended, if anything was."""

    async def run(self) -> None:
        """Look and mend, without end.

        Raises:
            KernelError: changes can't be heard of.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            tasks.create_task(self._mend())

    async def _hear(self) -> None:
        async for _ in self._changes:
            self._asked.set()

    async def _mend(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._asked.wait()
                await asyncio.sleep(_SETTLE_S)
            except TimeoutError:
                pass
            self._asked.clear()
            await self._look_once()
            await asyncio.sleep(_APART_S)

    async def _look_once(self) -> None:
        try:
            found = await self._look()
        except KernelError as error:
            log.warning("%s can't be compared, trying again: %s", self.what, error)
            self._asked.set()
            return
        for words in found:
            log.warning("repaired: %s", words)
        self.repairs += len(found)
        if found:
            self.on_repaired(found)
