"""What tools ask a running agent: has it applied this object, and how is it.

A unix socket in the state folder, one request a connection: u32 length (host order) and JSON, both ways.

    {"applied": {"kind": "networkpolicies.networking.k8s.io", "namespace": "shop", "name": "db", "revision": "..."}}
        answers {"applied": true} once the kernel has what follows from that object at that revision or a later one
        ("" for one that is gone), {"applied": false} after ten seconds
    {"status": {}}
        answers the agent's status

Revisions are opaque, so "or a later one" is asked of the store: an object that was told here at another revision than
the one asked for is fresh enough if the store has it at just that revision now.
"""

import asyncio
import contextlib
import json
import logging
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.dataplane import Dataplane
from agent.graph import Graph
from datastore.errors import NotFound, StoreError
from datastore.resources import kinds
from datastore.resources.value import Resource
from datastore.store import Reader
from kernel.errors import KernelError

log = logging.getLogger(__name__)

WAIT_S = 10.0
_LENGTH = struct.Struct("=I")
_REQUEST_MAX = 1 << 16


class Wanted(msgspec.Struct, frozen=True):
    """An object whose effect somebody waits for."""

    kind: str
    name: str
    namespace: str = ""
    revision: str = ""


class ControlRequest(msgspec.Struct, frozen=True):
    """One of the two questions."""

    applied: Wanted | None = None
    status: Mapping[str, object] | None = None


class Control:
    """Answers at a socket."""

    def __init__(
        self, store: Reader, graph: Graph, dataplane: Dataplane, status: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._store = store
        self._graph = graph
        self._dataplane = dataplane
        self._status = status
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen at a path; a socket that an earlier agent left is replaced."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._server = await asyncio.start_unix_server(self._serve, path)
        os.chmod(path, 0o600)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def look_again(self) -> None:
        """Those who wait may look again: the graph has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def applied(self, wanted: Wanted) -> bool:
        """Whether, within ten seconds, the kernel has what follows from an object."""
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    changed = self._changed
                    if await self._is_seen(wanted):
                        break
                    await changed.wait()
                await self._dataplane.settled()
        except (TimeoutError, KernelError, StoreError) as error:
            log.warning("%s %s/%s isn't applied yet: %r", wanted.kind, wanted.namespace, wanted.name, error)
            return False
        return self._dataplane.started

    async def _is_seen(self, wanted: Wanted) -> bool:
        kind = kinds.named(wanted.kind)
        seen = self._graph.seen(kind, wanted.namespace, wanted.name)
        if seen == wanted.revision:
            return True
        try:
            found: Resource = await self._store.get(kind, wanted.name, wanted.namespace)
        except NotFound:
            return seen == ""
        return found.revision == seen

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            body = await reader.readexactly(min(length, _REQUEST_MAX))
            answer = json.dumps(await self._answer(body)).encode()
            writer.write(_LENGTH.pack(len(answer)) + answer)
            await writer.drain()
        except (OSError, EOFError, msgspec.DecodeError, StoreError) as error:
            log.warning("a connection asked nothing that can be answered: %r", error)
        finally:
            writer.close()

    async def _answer(self, body: bytes) -> Mapping[str, Any]:
        request = msgspec.json.decode(body, type=ControlRequest)
        if request.applied is not None:
            return {"applied": await self.applied(request.applied)}
        return self._status()
