"""A process of its own on a shared store, for processes.py.

python -m tests.datastore.worker share STORE NAME WORKERS    write beside others, then say what the mirror holds
python -m tests.datastore.worker write STORE NAME            write until killed, saying what was acknowledged

STORE is a datastore's address, or wal:PATH or persist:PATH for a SQLite file with that journal.
"""

import asyncio
import sys
from contextlib import aclosing
from itertools import count
from pathlib import Path

import msgspec

from datastore.errors import Conflict
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.sql.sqlite import SQLiteStore
from datastore.store import Store
from datastore.urls import open_store
from tests.datastore.drivers import PERSIST, WAL, Follower
from tests.datastore.samples import endpoint

ENDPOINTS = 20
"""How many endpoints a sharing worker leaves; it makes and deletes as many again."""
INCREMENTS = 20
"""How often it increments the counter that all share."""


async def increment(store: Store) -> None:
    """Add one to the counter, against everybody else who does."""
    while True:
        counter = await store.get(NetworkPolicy, "counter", "shop")
        labels = {"n": str(int(counter.metadata.labels["n"]) + 1)}
        metadata = msgspec.structs.replace(counter.metadata, labels=labels)
        try:
            await store.update(msgspec.structs.replace(counter, metadata=metadata))
        except Conflict:
            continue
        return


async def work(store: Store, name: str) -> None:
    for number in range(ENDPOINTS):
        brief, _ = await asyncio.gather(
            store.create(endpoint(f"{name}-brief-{number}")), store.create(endpoint(f"{name}-{number}"))
        )
        await store.delete(brief)
    for _ in range(INCREMENTS):
        await increment(store)
    await store.create(endpoint(f"{name}-end"))


async def share(store: Store, name: str, workers: int) -> None:
    listing = await store.list(WorkloadEndpoint)
    async with aclosing(store.watch(WorkloadEndpoint, listing.revision)) as watch:
        follower = Follower(watch, {(item.namespace, item.name): item for item in listing.items})
        working = asyncio.create_task(work(store, name))
        await follower.until(lambda mirror: sum(key[1].endswith("-end") for key in mirror) == workers)
        await working
    for item in sorted(follower.mirror.values(), key=lambda item: item.name):
        print(item.name, item.revision)


async def write(store: Store, name: str) -> None:
    for number in count():
        made = await store.create(endpoint(f"{name}-{number}"))
        print(made.name, made.revision, flush=True)


async def opened(place: str) -> Store:
    for journal in (WAL, PERSIST):
        if place.startswith(f"{journal.mode}:"):
            return await SQLiteStore.open(Path(place.partition(":")[2]), journal=journal)
    return await open_store(place)


async def main() -> None:
    role, place, name, *rest = sys.argv[1:]
    store = await opened(place)
    await (share(store, name, int(rest[0])) if role == "share" else write(store, name))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
