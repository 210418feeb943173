"""The limit of a store: bare compare-and-swap transactions through its own client library, with nothing of ours around.

One table or prefix, `key -> (revision, body)`, one statement or transaction a swap; the same durability as our drivers
ask for. What these can't do, no driver can.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import json

if TYPE_CHECKING:
    import aiohttp
    import asyncpg
    import grpc.aio


class Raw(Protocol):
    """Bare swaps; each key is used by one caller at a time."""

    async def put(self, key: str, body: bytes) -> None:
        """Make `key`."""
        ...

    async def swap(self, key: str, body: bytes) -> None:
        """Replace its body at the revision last seen; a lost swap is an error here."""
        ...


class RawSQLite:
    """sqlite3, one connection, rollback journal or WAL as the library allows, synchronous FULL."""

    def __init__(self, path: Path, journal: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute(f"PRAGMA journal_mode = {journal}")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS raw (key TEXT PRIMARY KEY, revision INTEGER, body BLOB)")
        self._at: dict[str, int] = {}

    async def put(self, key: str, body: bytes) -> None:
        """See `Raw.put`."""
        self._connection.execute("INSERT INTO raw VALUES (?, 1, ?)", (key, body))
        self._at[key] = 1

    async def swap(self, key: str, body: bytes) -> None:
        """See `Raw.swap`."""
        at = self._at[key]
        done = self._connection.execute(
            "UPDATE raw SET revision = revision + 1, body = ? WHERE key = ? AND revision = ?", (body, key, at)
        )
        _check(done.rowcount == 1, key)
        self._at[key] = at + 1

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class RawPostgreSQL:
    """asyncpg, one prepared statement a swap, autocommit; as many connections as are in flight, at most 32."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self._at: dict[str, int] = {}

    async def put(self, key: str, body: bytes) -> None:
        """See `Raw.put`."""
        await self._pool.execute("INSERT INTO raw VALUES ($1, 1, $2)", key, body)
        self._at[key] = 1

    async def swap(self, key: str, body: bytes) -> None:
        """See `Raw.swap`."""
        at = self._at[key]
        statement = (
            "UPDATE raw SET revision = revision + 1, body = $2 WHERE key = $1 AND revision = $3 RETURNING revision"
        )
        _check(await self._pool.fetchval(statement, key, body, at) == at + 1, key)
        self._at[key] = at + 1


@asynccontextmanager
async def _postgresql(url: str) -> AsyncIterator[Raw]:
    import asyncpg

    async with asyncpg.create_pool(url.partition("?")[0], min_size=1, max_size=32) as pool:
        await pool.execute("CREATE TABLE IF NOT EXISTS raw (key TEXT PRIMARY KEY, revision BIGINT, body BYTEA)")
        yield RawPostgreSQL(pool)


class RawEtcd:
    """grpc.aio and the messages alone: one Txn a swap, which compares the mod_revision and puts."""

    def __init__(self, channel: "grpc.aio.Channel") -> None:
        from datastore.etcd.etcd_pb2 import TxnRequest, TxnResponse

        self._txn = channel.unary_unary(
            "/etcdserverpb.KV/Txn",
            request_serializer=TxnRequest.SerializeToString,
            response_deserializer=TxnResponse.FromString,
        )
        self._at: dict[str, int] = {}

    async def put(self, key: str, body: bytes) -> None:
        """See `Raw.put`."""
        self._at[key] = 0
        await self.swap(key, body)

    async def swap(self, key: str, body: bytes) -> None:
        """See `Raw.swap`."""
        from datastore.etcd.etcd_pb2 import Compare, PutRequest, RequestOp, TxnRequest

        name = b"/raw/" + key.encode()
        compare = Compare(target=Compare.MOD, key=name, mod_revision=self._at[key])
        put = RequestOp(request_put=PutRequest(key=name, value=body))
        answer = await self._txn(TxnRequest(compare=[compare], success=[put]), timeout=10)
        _check(answer.succeeded, key)
        self._at[key] = answer.header.revision


@asynccontextmanager
async def _etcd(url: str) -> AsyncIterator[Raw]:
    import grpc.aio

    async with grpc.aio.insecure_channel(urlsplit(url).netloc, (("grpc.enable_retries", 0),)) as channel:
        yield RawEtcd(channel)


class RawKubernetes:
    """aiohttp: one PUT a swap, of a ConfigMap with the body in it, at its resourceVersion."""

    def __init__(self, session: "aiohttp.ClientSession", url: str, headers: dict[str, str]) -> None:
        self._session = session
        self._url = f"{url}/api/v1/namespaces/default/configmaps"
        self._headers = headers
        self._at: dict[str, str] = {}

    async def put(self, key: str, body: bytes) -> None:
        """See `Raw.put`."""
        await self._send("POST", "", key, body)

    async def swap(self, key: str, body: bytes) -> None:
        """See `Raw.swap`."""
        await self._send("PUT", f"/{key}", key, body)

    async def _send(self, method: str, path: str, key: str, body: bytes) -> None:
        metadata = {"name": key, "resourceVersion": self._at.get(key, "")}
        sent = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"body": body.decode()}}
        url = self._url + path
        async with self._session.request(method, url, data=json.encode(sent), headers=self._headers) as answer:
            _check(answer.ok, key)
            self._at[key] = json.decode(await answer.read(), type=_Answer).metadata["resourceVersion"]


class _Answer(msgspec.Struct):
    metadata: dict[str, Any]


@asynccontextmanager
async def _kubernetes(url: str) -> AsyncIterator[Raw]:
    from datastore.kubernetes.access import Access
    from datastore.kubernetes.address import parse

    access = Access(parse(url))
    link = await access.take()
    try:
        yield RawKubernetes(link.session, link.url, {**link.headers, "Content-Type": "application/json"})
    finally:
        await link.release()
        await access.close()


@asynccontextmanager
async def raw_on(url: str, folder: Path) -> AsyncIterator[Raw]:
    """Bare swaps on the server (or beside the file) that `url` names."""
    match urlsplit(url).scheme:
        case "sqlite":
            from datastore.sql.journal import journal_for

            raw = RawSQLite(folder / "raw.db", journal_for(sqlite3.sqlite_version_info).mode)
            try:
                yield raw
            finally:
                raw.close()
        case "postgresql":
            async with _postgresql(url) as bare:
                yield bare
        case "etcd":
            async with _etcd(url) as bare:
                yield bare
        case "kubernetes":
            async with _kubernetes(url) as bare:
                yield bare
        case other:
            raise SystemExit(f"no bare swaps for {other}")


def _check(swapped: bool, key: str) -> None:
    if not swapped:
        raise RuntimeError(f"{key} has moved on: something else writes here")


async def in_flight(raw: Raw, bodies: dict[str, bytes], rounds: int) -> float:
    """Swaps a second with one swap of each key of `bodies` in flight, `rounds` times."""
    loop = asyncio.get_running_loop()

    async def caller(key: str) -> None:
        for _ in range(rounds):
            await raw.swap(key, bodies[key])

    began = loop.time()
    await asyncio.gather(*(caller(key) for key in bodies))
    return len(bodies) * rounds / (loop.time() - began)
