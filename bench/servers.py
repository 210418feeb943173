"""The stores' servers for benches, started anew in a folder of their own: those that the tests start."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite://{folder}/tortie.db"


@contextmanager
def _postgresql(_folder: Path) -> Iterator[str]:
    from tests.servers.postgresql import PostgreSQLServer, missing

    reason = missing()
    if reason:
        raise SystemExit(reason)
    made = PostgreSQLServer()
    try:
        asyncio.run(made.start())
        yield made.url(asyncio.run(made.new_store()), made.port)
    finally:
        made.remove()


@contextmanager
def _etcd(folder: Path, version: str) -> Iterator[str]:
    from tests.servers.etcd import Etcd, program

    with Etcd(program(version), folder) as made:
        yield made.url()


@contextmanager
def _kubernetes(folder: Path) -> Iterator[str]:
    from tests.kube.apiserver import ADMIN_TOKEN
    from tests.kube.cluster import ControlPlane

    plane = ControlPlane(folder)
    try:
        # The bare swaps are of ConfigMaps, which none of our programs may write.
        config = plane.cached.kubeconfig(folder / "kubeconfig", {"token": ADMIN_TOKEN})
        yield f"kubernetes://{config}?qps=0"
    finally:
        plane.stop()


_SERVERS: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "etcd": lambda folder: _etcd(folder, "etcd"),
    "etcd-3.4": lambda folder: _etcd(folder, "etcd-3.4"),
    "kubernetes": _kubernetes,
}
STORES = tuple(_SERVERS)


@contextmanager
def server(name: str) -> Iterator[str]:
    """The address of an empty store.

    Raises:
        SystemExit: none is called so.
    """
    if name not in _SERVERS:
        raise SystemExit(f"no store {name!r}; there are {', '.join(STORES)}")
    with tempfile.TemporaryDirectory(prefix="tortie-bench-", dir="/var/tmp") as text, _SERVERS[name](Path(text)) as url:
        yield url
