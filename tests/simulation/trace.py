"""What happened in a seed, line by line: the same lines whenever the seed is run again."""

from collections.abc import Callable


class Trace:
    """Lines with their virtual time; kept only when somebody wants them."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on
        self.lines: list[str] = []
        self.clock: Callable[[], float] = lambda: 0.0

    def note(self, who: str, what: str) -> None:
        """Keep a line; ask `on` first where making its text costs something."""
        if self.on:
            self.lines.append(f"{self.clock():12.6f}  {who:<16} {what}")
