"""Addresses of datastores, and that no driver is imported for nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from datastore.errors import Invalid, UnsupportedDatastore
from datastore.memory import MemoryStore
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.sql.sqlite import SQLiteStore
from datastore.urls import SCHEMES, describe, open_store
from tests.datastore.samples import policy


async def test_a_sqlite_address_opens_its_file(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/a%20b/store.db"
    store = await open_store(url)
    assert isinstance(store, SQLiteStore)
    assert store.status.path == tmp_path / "a b" / "store.db"
    created = await store.create(policy())
    await store.close()
    again = await open_store(url)
    assert await again.get(NetworkPolicy, "db", "shop") == created
    await again.close()


async def test_each_memory_is_a_store_of_its_own() -> None:
    one, other = await open_store("memory:"), await open_store("memory:")
    assert isinstance(one, MemoryStore)
    await one.create(policy())
    assert (await other.list(NetworkPolicy)).items == ()


@pytest.mark.parametrize(
    ("url", "description"),
    [
        pytest.param("sqlite:///var/lib/t.db", "SQLite file /var/lib/t.db", id="a file"),
        pytest.param("sqlite:////var/lib/t.db", "SQLite file /var/lib/t.db", id="as SQLAlchemy writes it"),
        pytest.param("SQLite:///t.db", "SQLite file /t.db", id="a scheme in capitals"),
        pytest.param("memory:", "memory of this process", id="memory"),
        pytest.param("etcd://db/x", "etcd at db:2379, below /x", id="etcd"),
        pytest.param("kubernetes:", "Kubernetes API, configuration of the pod, or of kubectl", id="a cluster"),
        pytest.param(
            "kubernetes:///etc/k?context=lab&qps=5",
            "Kubernetes API, configuration kubeconfig /etc/k, context lab",
            id="a kubeconfig",
        ),
    ],
)
def test_an_address_is_described_without_opening_it(url: str, description: str) -> None:
    assert describe(url) == description


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        pytest.param("etcdv3", "etcdv3", id="Calico's word for it"),
        pytest.param("mysql://u:secret@db/x", "mysql", id="another database"),
        pytest.param("", "", id="nothing"),
    ],
)
async def test_an_address_without_a_driver_is_refused_by_its_scheme(url: str, scheme: str) -> None:
    with pytest.raises(UnsupportedDatastore) as caught:
        await open_store(url)
    assert (caught.value.scheme, caught.value.supported) == (scheme, SCHEMES)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite:t.db",
        "sqlite://host/t.db",
        "sqlite:///t.db?mode=ro",
        "sqlite:///dir/",
        "sqlite:///a%00b",
        "memory:x",
        "kubernetes://10.0.0.1:6443",
        "kubernetes:relative",
        "kubernetes:///etc/",
        "kubernetes:?kontext=lab",
        "kubernetes:?qps=fast",
        "kubernetes:?qps=-1",
        "kubernetes:?timeout=0",
        "kubernetes:?timeout=inf",
    ],
)
async def test_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        await open_store(url)
    assert caught.value.path == "datastore"


def modules_after(program: str) -> set[str]:
    """What a fresh Python has imported after `program`."""
    shown = f"{program}\nimport sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_reading_addresses_imports_no_driver() -> None:
    described = "[describe(url) for url in ('sqlite:///x.db', 'memory:', 'kubernetes:')]"
    loaded = modules_after(f"from datastore.urls import describe; {described}")
    assert not loaded & {"sqlalchemy", "sqlite3", "asyncinotify", "asyncpg", "grpc", "kubernetes", "datastore.memory"}


def test_opening_one_driver_imports_no_other(tmp_path: Path) -> None:
    program = (
        "import asyncio, datastore.urls as u\nasync def f(): await (await u.open_store({!r})).close()\nasyncio.run(f())"
    )
    clients = {"sqlalchemy", "grpc", "asyncpg", "psycopg", "kubernetes", "aiosqlite", "sqlite3"}
    assert not modules_after(program.format("memory:")) & clients
    assert modules_after(program.format(f"sqlite://{tmp_path}/x.db")) & clients == {"sqlalchemy", "sqlite3"}
