"""The agent's end of the relay: a unix socket, one call a connection.

A relay that goes away (its runtime's deadline killed it) cancels its call, and a cancelled ADD undoes itself; one whose
answer can't be given any more is undone, too. DEL goes on: what it removes is to be removed anyway.
"""

import asyncio
import logging
import os
import socket
import struct
from pathlib import Path

from cni import faults
from cni.plugin import Output, Plugin
from cni.request import REQUEST_MAX, BadFrame, Request, parse

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("=I")
_FDS_MAX = 4
_CHUNK = 1 << 18
_CALLS_MAX = 128
"""Calls at once; each has some ten descriptors, and more would only queue for the same locks. The rest wait to be
accepted, where a relay waits, too."""
_FULL_PAUSE_S = 0.1
_FINISH_S = 10.0
"""How long calls may go on when the server closes; then they are cancelled, and ADDs undo themselves."""
_READ_S = 10.0
"""A relay sends its request at once; who doesn't is no relay."""


class Server:
    """Listens at a path until it is closed."""

    def __init__(self, plugin: Plugin, path: Path) -> None:
        self._plugin = plugin
        self._path = path
        self._calls: set[asyncio.Task[None]] = set()
        """Connections that are being served."""
        self._running: set[asyncio.Task[Output]] = set()
        """What the plugin does for them."""
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. A socket that another agent left is replaced; only root may connect."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(temporary))
        os.chmod(temporary, 0o600)
        listener.listen(512)
        os.replace(temporary, self._path)
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def close(self) -> None:
        """Stop listening and wait for the calls that run."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        for _ in range(2):
            if self._calls:
                await asyncio.wait(tuple(self._calls), timeout=_FINISH_S)
                for call in self._running:
                    log.warning("a call is cancelled, for this agent ends")
                    call.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if len(self._calls) >= _CALLS_MAX:
                await asyncio.wait(tuple(self._calls), return_when=asyncio.FIRST_COMPLETED)
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptors left, above all: others will close theirs
                log.error("no call can be accepted just now: %s", error)
                await asyncio.sleep(_FULL_PAUSE_S)
                continue
            task = asyncio.create_task(self._serve(connection))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_READ_S):
                request = await _receive(connection)
        except (BadFrame, OSError, TimeoutError) as error:
            log.warning("a connection was no relay's call: %r", error)
            connection.close()
            return
        try:
            output = await self._run(request, connection)
            try:
                answer = bytes([output.status]) + output.stdout
                await asyncio.get_running_loop().sock_sendall(connection, _LENGTH.pack(len(answer)) + answer)
                if faults.ACTIVE:
                    faults.note("call answered")
            except OSError as error:
                log.warning("the answer to %s reached nobody: %s", request.command, error)
                await self._plugin.unheard(request, output)
        finally:
            request.close()
            connection.close()

    async def _run(self, request: Request, connection: socket.socket) -> Output:
        loop, call = asyncio.get_running_loop(), asyncio.ensure_future(self._plugin.run(request))
        self._running.add(call)
        call.add_done_callback(self._running.discard)

        def gone() -> None:
            # Nothing more comes from a relay: readable means that it is gone.
            loop.remove_reader(connection)
            if request.command == "ADD":
                call.cancel()

        loop.add_reader(connection, gone)
        try:
            return await call
        finally:
            loop.remove_reader(connection)


async def _receive(connection: socket.socket) -> Request:
    """A whole request; its descriptors are closed again if it is none.

    Raises:
        BadFrame, OSError: it is none.
    """
    data, fds = bytearray(), []
    try:
        while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
            try:
                chunk, got, _, _ = socket.recv_fds(connection, _CHUNK, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await _readable(connection)
                continue
            fds += got
            if not chunk:
                raise BadFrame(f"the connection ended after {len(data)} bytes")
            data += chunk
            if len(data) > REQUEST_MAX:
                raise BadFrame("too long")
        return parse(bytes(data[_LENGTH.size :]), tuple(fds))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
