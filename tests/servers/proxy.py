"""A TCP proxy on loopback that fails as networks do, when a test says.

client ──► proxy ──► server      forwards bytes, and keeps nothing

    cut()            every connection is reset, both ways; new ones are taken
    refuse           new connections are reset at once
    stall            bytes wait on the way, in both directions, until it is cleared
    lose_answers     what the client sends arrives, what the server answers is dropped; then cut() makes it an
                     answer that was lost
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST."""


class Proxy:
    """Made by `proxied`."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._target = port
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._moving = asyncio.Event()
        self._moving.set()
        self.port = 0
        self.refuse = False
        self.lose_answers = False
        self.connections = 0
        """How many there ever were."""
        self.on_request: Callable[[bytes], None] = lambda _: None
        """Sees every chunk from a client, before it is forwarded: the place to cut in the middle of a request."""
        self.on_answer: Callable[[bytes], None] = lambda _: None

    @property
    def stall(self) -> bool:
        """Whether bytes wait on the way."""
        return not self._moving.is_set()

    @stall.setter
    def stall(self, stalled: bool) -> None:
        (self._moving.clear if stalled else self._moving.set)()

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._tasks)

    def cut(self) -> None:
        """Reset every connection."""
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)

    def redirect(self, port: int) -> None:
        """Reset every connection; new ones lead to another server."""
        self._target = port
        self.cut()

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and reset what there is."""
        if self._server is not None:
            self._server.close()
        self.refuse = True
        self.stall = False
        while self._tasks:  # not cancelled: asyncio logs it of a task that serves a connection
            self.cut()
            await asyncio.wait(set(self._tasks))

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.refuse:
            _reset(client_out)
            return
        try:
            server_in, server_out = await asyncio.open_connection(self._host, self._target)
        except OSError:
            _reset(client_out)
            return
        pair = (client_out, server_out)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump(client_in, server_out, False), self._pump(server_in, client_out, True))
        finally:
            self._pairs.discard(pair)
            for writer in pair:
                _reset(writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK):
                await self._moving.wait()
                (self.on_answer if answers else self.on_request)(chunk)
                if answers and self.lose_answers:
                    continue
                sink.write(chunk)
                await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()


@asynccontextmanager
async def proxied(port: int, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """A proxy before a server's port."""
    proxy = Proxy(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
