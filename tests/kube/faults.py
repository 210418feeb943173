"""An API server as `tests.datastore.servers.Server`: one that is hurt, beside those that other tests share."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.kube.apiserver import ApiServer
from tests.kube.cluster import control_plane
from tests.kube.programs import missing
from tests.kube.stores import empty


@dataclass
class Hurt:
    """Its cluster is its own; a store is its whole content, and a new one empties it."""

    api: ApiServer
    folder: Path
    forgets: bool = True
    """A watch cache begins anew with each life."""
    _numbers: "count[int]" = field(default_factory=count)

    @property
    def port(self) -> int:
        return self.api.port

    async def new_store(self) -> str:
        await asyncio.to_thread(empty, self.api)
        return ""

    def url(self, store: str, port: int, timeout_s: float = 10.0) -> str:
        config = self.api.kubeconfig(self.folder / f"{next(self._numbers)}", port=port)
        return f"kubernetes://{config}?timeout={timeout_s:g}&qps=0"

    async def start(self) -> None:
        if not self.api.server.runs:
            self.api.server.start(wait=False)  # in this thread: it dies with the one that starts it
            await asyncio.to_thread(self.api.server.wait_ready)

    async def stop(self) -> None:
        await asyncio.to_thread(self.api.server.stop)

    async def kill(self) -> None:
        await asyncio.to_thread(self.api.server.kill)


@asynccontextmanager
async def on_kubernetes() -> AsyncIterator[Hurt]:
    """An API server that nobody shares."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:
        api = control_plane().start("hurt", prefix="/hurt")
        try:
            yield Hurt(api, Path(folder))
        finally:
            api.server.kill()
