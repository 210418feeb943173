"""What tools ask a running controller: how it is. A unix socket; the frames are those of an agent's control socket.

u32 length (host order) and JSON, both ways: {"status": {}} answers the controller's status
"""

import asyncio
import contextlib
import json
import logging
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("=I")
_REQUEST_MAX = 1 << 16

Status = Callable[[], Mapping[str, object]]


class StatusServer:
    """Answers at a socket."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen at a path, for its owner alone; a socket that an earlier controller left is replaced.

        Raises:
            OSError: the socket can't be made.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._server = await asyncio.start_unix_server(self._serve, path)
        os.chmod(path, 0o600)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            await reader.readexactly(min(length, _REQUEST_MAX))  # there is one question only
            answer = json.dumps(self._status()).encode()
            writer.write(_LENGTH.pack(len(answer)) + answer)
            await writer.drain()
        except (OSError, EOFError) as error:
            log.warning("a connection asked nothing that can be answered: %r", error)
        finally:
            writer.close()
