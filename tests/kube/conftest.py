"""A store on the API server that these tests share, emptied before each, and a way to open more."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.store import KubernetesStore
from tests.kube.apiserver import ApiServer
from tests.kube.cluster import control_plane
from tests.kube.programs import missing
from tests.kube.stores import empty


class OpenAs(Protocol):
    """Opens a store on `server`, which is closed when the test ends."""

    def __call__(
        self, user: dict[str, object] | None = None, *, port: int = 0, timeout_s: float = 10.0
    ) -> Awaitable[KubernetesStore]: ...


@pytest.fixture
def server() -> ApiServer:
    """The shared API server, without any object of ours."""
    if reason := missing():
        pytest.skip(reason)
    found = control_plane().cached
    empty(found)
    return found


@pytest.fixture
async def open_as(server: ApiServer, tmp_path: Path) -> AsyncIterator[OpenAs]:
    async with AsyncExitStack() as stack:
        yield opener(server, tmp_path, stack)


def opener(server: ApiServer, folder: Path, stack: AsyncExitStack) -> OpenAs:
    """See `OpenAs`."""
    configs: list[Path] = []

    async def open_as(
        user: dict[str, object] | None = None, *, port: int = 0, timeout_s: float = 10.0
    ) -> KubernetesStore:
        configs.append(server.kubeconfig(folder / f"config-{len(configs)}", user, port=port))
        store = await KubernetesStore.open(KubernetesAddress(configs[-1], qps=0, timeout_s=timeout_s))
        stack.push_async_callback(store.close)
        return store

    return open_as


@pytest.fixture
async def store(open_as: OpenAs) -> KubernetesStore:
    return await open_as()
