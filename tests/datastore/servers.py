"""The database servers that one suite of faults (test_faults.py) hurts, and what each of them must let be done to it.

SERVERS["etcd"] = etcd        an async context manager function that gives a Server; when it ends, it cleans up
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest

from datastore.store import Store
from datastore.urls import open_store
from tests.kube.faults import on_kubernetes
from tests.servers import etcd, postgresql
from tests.servers.proxy import Proxy


class Server(Protocol):
    """A server on a port of 127.0.0.1, whose data outlives it."""

    @property
    def port(self) -> int:
        """Where it listens, in every life the same."""
        ...

    @property
    def forgets(self) -> bool:
        """Whether a new life has no history of the one before, so that watches are `Compacted`."""
        ...

    async def new_store(self) -> str:
        """A new, empty store: its part of the address."""
        ...

    def url(self, store: str, port: int, timeout_s: float = 10.0) -> str:
        """The address of `store` by way of `port`, which may be a proxy's; calls wait for about `timeout_s`."""
        ...

    async def start(self) -> None:
        """Start it, unless it runs, on the data that it has; it answers when this returns."""
        ...

    async def stop(self) -> None:
        """Shut it down in order, but at once: who is connected is thrown out."""
        ...

    async def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        ...


@dataclass
class Place:
    """A new store on a server, and a proxy before it."""

    server: Server
    proxy: Proxy
    name: str

    @asynccontextmanager
    async def opened(self, *, directly: bool = False, timeout_s: float = 10.0) -> AsyncIterator[Store]:
        """The store, opened by way of the proxy, unless `directly`."""
        store = await open_store(self.url(self.server.port if directly else self.proxy.port, timeout_s))
        try:
            yield store
        finally:
            await store.close()

    def url(self, port: int, timeout_s: float = 10.0) -> str:
        return self.server.url(self.name, port, timeout_s)


@asynccontextmanager
async def on_postgresql() -> AsyncIterator[Server]:
    """A PostgreSQL server of its own: the one that other tests share is never hurt."""
    if reason := postgresql.missing():
        pytest.skip(reason)
    server = postgresql.PostgreSQLServer()
    try:
        await server.start()
        yield server
    finally:
        server.remove()


def on_etcd(version: str) -> Callable[[], AbstractAsyncContextManager[Server]]:
    """An etcd of one member, of its own."""

    @asynccontextmanager
    async def server() -> AsyncIterator[Server]:
        with TemporaryDirectory() as folder, etcd.Etcd(etcd.program(version), Path(folder)) as cluster:
            yield etcd.Lone(cluster)

    return server


SERVERS: Mapping[str, Callable[[], AbstractAsyncContextManager[Server]]] = {
    "etcd": on_etcd("etcd"),
    "etcd-3.4": on_etcd("etcd-3.4"),
    "kubernetes": on_kubernetes,
    "postgresql": on_postgresql,
}
