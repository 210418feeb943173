"""One call on the Kubernetes API in a process that does nothing else: what it costs, as a line of JSON.

    python -m bench.reader list kubernetes:///path/to/kubeconfig

Started by `bench.kubernetes`; imports no more than an agent's driver does.
"""

import asyncio
import gc
import resource
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench import pods
from datastore.kubernetes import store as driver
from datastore.resources.kubernetes import Namespace, Pod
from datastore.store import Gone, Revision, Store
from datastore.urls import open_store

READY = "ready"
IN_FLIGHT = 32


class Cost(msgspec.Struct, frozen=True):
    """What a child says of its one call."""

    items: int
    cpu_s: float
    wall_s: float
    opened_mib: float
    """When the store had been opened."""
    after_mib: float
    """With the result still held."""
    peak_mib: float


def memory_mib(field: str) -> float:
    """Of this process: `VmRSS` or `VmHWM`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def cpu_s() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def child(mode: str, url: str, start: str) -> Cost:
    """One call, measured; `start` is the revision that a replay goes on from."""
    store = await open_store(url)
    try:
        if mode == "watch":
            start = (await store.list(Namespace)).revision
            print(READY, start, flush=True)
        gc.collect()
        opened, began, used = memory_mib("VmRSS"), time.monotonic(), cpu_s()
        kept = await _CALLS[mode](store, url, start)
        return Cost(
            items=kept if isinstance(kept, int) else len(kept),
            cpu_s=cpu_s() - used,
            wall_s=time.monotonic() - began,
            opened_mib=opened,
            after_mib=memory_mib("VmRSS"),
            peak_mib=memory_mib("VmHWM"),
        )
    finally:
        await store.close()


async def _list(store: Store, _url: str, _start: str) -> tuple[Pod, ...]:
    return (await store.list(Pod)).items


async def _whole(store: Store, _url: str, _start: str) -> tuple[Pod, ...]:
    driver.PAGE = 0
    return (await store.list(Pod)).items


async def _fetch(_store: Store, url: str, _start: str, encoding: str = "gzip") -> int:
    """The bytes of all pages."""
    config, headers = _config(url), {"Accept-Encoding": encoding}
    cluster, read, token = config["clusters"][0]["cluster"], 0, ""
    async with session_of(Path(cluster["certificate-authority"]), config["users"][0]["user"]["token"]) as session:
        while True:
            query = {"limit": str(driver.PAGE), **({"continue": token} if token else {})}
            async with session.get(f"{cluster['server']}/api/v1/pods", params=query, headers=headers) as answer:
                body = await answer.read()
            read += len(body)
            token = msgspec.json.decode(body, type=_Page).metadata.token
            if not token:
                return read


async def _plain(store: Store, url: str, start: str) -> int:
    return await _fetch(store, url, start, "identity")


def _config(url: str) -> Any:  # noqa: ANN401  # decoded JSON
    return msgspec.json.decode(Path(url.removeprefix("kubernetes://").partition("?")[0]).read_bytes())


class _ListMeta(msgspec.Struct, rename={"token": "continue"}):
    token: str = ""


class _Page(msgspec.Struct):
    metadata: _ListMeta


async def _watch(store: Store, _url: str, start: str) -> int:
    """Events until the one that is marked as the last."""
    seen = 0
    async with aclosing(store.watch(Pod, Revision(start))) as batches:
        async for batch in batches:
            seen += len(batch.changes)
            for change in batch.changes:
                if not isinstance(change, Gone) and pods.LAST in change.metadata.annotations:
                    return seen
    return seen


_Call = Callable[[Store, str, str], Awaitable[int | tuple[Pod, ...]]]
_CALLS: Mapping[str, _Call] = {
    "list": _list,
    "whole": _whole,
    "fetch": _fetch,
    "plain": _plain,
    "watch": _watch,
    "replay": _watch,
}


@asynccontextmanager
async def session_of(authority: Path, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Past the driver; at most `IN_FLIGHT` requests at once."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(authority)), limit=IN_FLIGHT)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield session


def main() -> None:
    """Measure one call and tell: how, the URL, and the revision to start at."""
    mode, url, start = (*sys.argv[1:], "")[:3]
    print(msgspec.json.encode(asyncio.run(child(mode, url, start))).decode())


if __name__ == "__main__":
    main()
