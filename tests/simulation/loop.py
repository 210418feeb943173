"""An event loop on virtual time: nothing waits, no descriptor is looked at, the same calls come in the same order.

Whenever nothing is ready the clock jumps to the next timer. Callbacks that are ready run in the order in which they
became so, as asyncio promises; what interleaves is decided by how long each answer of the store takes (`server`), and
those times are drawn from the seed.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

_TURNS_WITHOUT_TIME = 100_000
"""Turns of the loop at one instant, after which something spins: a seed's busiest instant has some hundred."""


class Stuck(Exception):
    """Nothing is ready and no timer is set, or time doesn't go on."""


class _Jump(selectors.BaseSelector):
    """Instead of waiting, the time that would be waited has passed."""

    def __init__(self) -> None:
        self.now = 0.0
        self._still = 0
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: object, events: int, data: object = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, len(self._keys), events, data)  # type: ignore[arg-type]
        self._keys[id(fileobj)] = key
        return key

    def unregister(self, fileobj: object) -> selectors.SelectorKey:
        return self._keys.pop(id(fileobj))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is ready and nothing will ever be")
        self._still = 0 if timeout > 0 else self._still + 1
        if self._still > _TURNS_WITHOUT_TIME:
            raise Stuck(f"{_TURNS_WITHOUT_TIME} turns of the loop and no time has passed")
        self.now += timeout
        return []

    def get_map(self) -> Mapping[object, selectors.SelectorKey]:  # type: ignore[override]
        found: dict[Any, selectors.SelectorKey] = dict(self._keys)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` begins at 0 s."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jump.now
