"""Stores on a real API server for the contract suite.

How much history is kept can't be asked of an API server; what a test asks for is kept by compacting etcd behind it.
That shows at once only without a watch cache, which keeps more than a minute of events for itself (and which alone
sends bookmarks): a store with a short history is on a server that has none.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.paths import collection
from datastore.kubernetes.store import KubernetesStore
from datastore.kubernetes.watching import BOOKMARK_S
from datastore.resources import kinds
from datastore.resources.kubernetes import Namespace
from datastore.resources.value import Resource
from datastore.store import Batch, Listing, Revision, Store, Where
from tests.datastore.drivers import Opener
from tests.kube.apiserver import ApiServer
from tests.kube.cluster import NAMESPACES, control_plane
from tests.kube.programs import missing
from tests.servers.etcd import Etcd

R = TypeVar("R", bound=Resource)

LONG = 1000
"""More entries of history than any test that asks for this writes."""


def on_server(folder: Path, stack: AsyncExitStack) -> Opener:
    """Stores on an API server; a test's second store is on another cluster's."""
    if reason := missing():
        pytest.skip(reason)
    numbers = count()

    async def open_new(*, keep: int = LONG, bookmark_s: float = BOOKMARK_S) -> Store:
        plane, number = control_plane(), next(numbers)
        forgets = keep < LONG and bookmark_s >= BOOKMARK_S
        server = plane.other if number else plane.direct if forgets else plane.cached
        empty(server)
        config = server.kubeconfig(folder / f"kubeconfig-{number}")
        store = await KubernetesStore.open(KubernetesAddress(config, qps=0), bookmark_s=bookmark_s)
        stack.push_async_callback(store.close)
        return Forgetful(store, plane.etcd, keep) if forgets else store

    return open_new


def empty(server: ApiServer) -> None:
    """Delete every object that tests make."""
    for kind in kinds.KINDS:
        if kind is Namespace:
            continue
        for namespace in NAMESPACES if kind.KIND.namespaced else ("",):
            status, answer = server.ask("DELETE", f"{collection(kind, namespace)}?gracePeriodSeconds=0")
            if status != 200:
                raise AssertionError(answer)


class Forgetful:
    """A store whose etcd keeps `keep` writes made through it."""

    def __init__(self, store: KubernetesStore, etcd: Etcd, keep: int) -> None:
        self._store = store
        self._etcd = etcd
        self._keep = keep
        self._revisions: list[int] = []

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return await self._store.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        return await self._store.list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        return self._store.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        created = await self._store.create(resource)
        self._forget()
        return created

    async def update(self, resource: R) -> R:
        updated = await self._store.update(resource)
        self._forget()
        return updated

    async def delete(self, resource: Resource) -> None:
        await self._store.delete(resource)
        self._forget()

    async def close(self) -> None:
        await self._store.close()

    def _forget(self) -> None:
        self._revisions.append(self._etcd.revision())
        if len(self._revisions) > self._keep:
            self._etcd.compact(self._revisions[-self._keep - 1])
