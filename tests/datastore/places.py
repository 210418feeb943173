"""Datastores on real servers of this machine, by their addresses, each empty when it is asked for."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kube.cluster import control_plane
from tests.kube.programs import missing as kubernetes_missing
from tests.kube.stores import empty
from tests.servers import postgresql
from tests.servers.etcd import shared


@dataclass(frozen=True)
class Place:
    """A datastore on this machine."""

    url: str
    reach: tuple[str, ...] = ()
    """Servers that the address doesn't name, but what it names does."""
    forwarded: bool = True


def on_postgresql(_: Path, by_socket: bool = False) -> Place:
    if reason := postgresql.missing():
        pytest.skip(reason)
    server = asyncio.run(postgresql.shared_server())
    schema = asyncio.run(server.new_store())
    if not by_socket:
        return Place(server.url(schema, server.port))
    socket = f"tortie@:{server.port}/tortie?host={server.folder}&schema={schema}&sslmode=disable"
    return Place(f"postgresql://{socket}", forwarded=False)


def on_kubernetes(folder: Path) -> Place:
    if reason := kubernetes_missing():
        pytest.skip(reason)
    server = control_plane().cached
    empty(server)
    config = server.kubeconfig(folder / "kubeconfig")
    return Place(f"kubernetes://{config}", (f"127.0.0.1:{server.port}",))


PLACES: Mapping[str, Callable[[Path], Place]] = {
    "PostgreSQL": on_postgresql,
    "PostgreSQL, by its unix socket": lambda folder: on_postgresql(folder, by_socket=True),
    "etcd": lambda _: Place(shared("etcd").url()),
    "Kubernetes": on_kubernetes,
}
