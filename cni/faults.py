"""Named places in ADD and DEL, for tests that make something happen there and for benches that look at the clock.

With TORTIE_FAULT_SOCKET in its environment a program says each place's name to that unix socket (a line) and goes on
when it has been answered (a line), or finds nobody there: the agent or its relay is killed, the store locked. The loop
runs on meanwhile: other calls, and the end of this one's relay, are seen. With TORTIE_PLACES it notes the time of each
(monotonic nanoseconds) and writes them to that file when it ends. Without either a place costs one look at a constant.
"""

import asyncio
import atexit
import contextlib
import os
import time
from pathlib import Path

_SOCKET = os.environ.get("TORTIE_FAULT_SOCKET", "")
_FILE = os.environ.get("TORTIE_PLACES", "")
_seen: list[tuple[str, int]] = []
ACTIVE = bool(_SOCKET or _FILE)
"""Whether anybody wants to be told: `if faults.ACTIVE: await faults.at("add recorded")`."""


def note(place: str) -> None:
    """Note the time, where times are noted: a place where nothing is to be made to happen."""
    if _FILE:
        _seen.append((place, time.monotonic_ns()))


async def at(place: str) -> None:
    """Say that a call has come to a place, and wait until it may go on."""
    if _FILE:
        note(place)
        return
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_unix_connection(_SOCKET)
        try:
            writer.write(place.encode() + b"\n")
            await reader.readline()
        finally:
            writer.close()


if _FILE:
    atexit.register(lambda: Path(_FILE).write_text("".join(f"{place}\t{at}\n" for place, at in _seen)))
