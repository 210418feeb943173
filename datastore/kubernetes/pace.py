"""How many requests a second this process sends: the API server is everybody's.

A generic cell rate algorithm (ITU-T I.371): each request has its own time, `1/qps` after the one before; a request may
come as early as a burst of `2 * qps` before its time. Whoever comes too early sleeps, in the order of coming.
"""

import asyncio

BURST_S = 2.0
"""How long a quiet time may be saved up."""


class Pace:
    """For one event loop; `qps` 0 sets no limit."""

    def __init__(self, qps: float) -> None:
        self._every_s = 1 / qps if qps else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Return when one more request may be sent."""
        if not self._every_s:
            return
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._every_s, now - BURST_S + self._every_s)
        if self._next > now:
            await asyncio.sleep(self._next - now)
