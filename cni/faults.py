"""Named places in ADD and DEL where a test can make something happen: the agent or its relay killed, the store locked.

With TORTIE_FAULT_SOCKET in its environment a program says each place's name to that unix socket (a line) and goes on
when it has been answered (a line), or finds nobody there. Without it a place costs one look at a constant. The loop
runs on meanwhile: other calls, and the end of this one's relay, are seen.
"""

import asyncio
import contextlib
import os

_SOCKET = os.environ.get("TORTIE_FAULT_SOCKET", "")
ACTIVE = bool(_SOCKET)
"""Whether anybody wants to be told: `if faults.ACTIVE: await faults.at("add recorded")`."""


async def at(place: str) -> None:
    """Say that a call has come to a place, and wait until it may go on."""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_unix_connection(_SOCKET)
        try:
            writer.write(place.encode() + b"\n")
            await reader.readline()
        finally:
            writer.close()
