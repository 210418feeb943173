"""Which of a node's blocks may have an address to give, so that an assign looks at none of the others.

    open      may have one: looked at in the order of their names, and closed when it turns out that they haven't
    closed    until something of the block changes, or its first released address has cooled

A block is looked at in vain once for each change of it, so an assign costs the same with three blocks as with thousand.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterator


class Room:
    """The blocks of one node, by pool."""

    def __init__(self) -> None:
        self._open: dict[str, list[str]] = {}
        """Names in order, by pool."""
        self._pool_of: dict[str, str] = {}
        self._cooling: list[tuple[float, str]] = []
        """When closed ones are to be looked at again, soonest first; some are open again already, or gone."""

    def reopen(self, name: str, pool: str) -> None:
        """A block is there, or has changed."""
        if self._pool_of.get(name, pool) != pool:
            self.drop(name)
        self._pool_of[name] = pool
        names = self._open.setdefault(pool, [])
        place = bisect_left(names, name)
        if place == len(names) or names[place] != name:
            names.insert(place, name)

    def reopen_all(self) -> None:
        """What decides about room has changed for every block."""
        for name, pool in self._pool_of.items():
            self.reopen(name, pool)
        self._cooling.clear()

    def close(self, name: str, until: float | None) -> None:
        """A block has no room before `until`; None: before it changes."""
        self._take_out(name)
        if until is not None:
            heapq.heappush(self._cooling, (until, name))

    def drop(self, name: str) -> None:
        """A block isn't there, or isn't this node's any more."""
        self._take_out(name)
        self._pool_of.pop(name, None)

    def names(self, pool: str, now: float) -> Iterator[str]:
        """The open blocks of a pool, in order; they may be closed meanwhile."""
        while self._cooling and self._cooling[0][0] <= now:
            _, name = heapq.heappop(self._cooling)
            if name in self._pool_of:
                self.reopen(name, self._pool_of[name])
        last = ""
        names = self._open.get(pool, [])
        while (place := bisect_left(names, f"{last}\0" if last else "")) < len(names):
            last = names[place]
            yield last

    def _take_out(self, name: str) -> None:
        names = self._open.get(self._pool_of.get(name, ""), [])
        place = bisect_left(names, name)
        if place < len(names) and names[place] == name:
            del names[place]
