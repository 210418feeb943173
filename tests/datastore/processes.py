"""Several processes on one store: what test_processes and test_faults do with them, whatever the store is.

`place` is the store's address as worker.py takes it.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.samples import policy
from tests.datastore.worker import ENDPOINTS, INCREMENTS

WORKERS = 4
"""Three agents and a person with the command line."""

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def worker(role: str, *arguments: object) -> AsyncGenerator[Process, None]:
    """A worker that is gone when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.datastore.worker", role, *map(str, arguments), stdout=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def write_together(store: Store, place: str) -> None:
    """Workers that write together lose nothing, and all of them and `store` see the same."""
    await store.create(policy("counter", n="0"))
    follower = Follower(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision))
    names = [f"w{number}" for number in range(WORKERS)]
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        starting = [worker("share", place, name, WORKERS) for name in names]
        workers = [await stack.enter_async_context(start) for start in starting]
        said = [(await process.communicate())[0].decode() for process in workers]
    assert [process.returncode for process in workers] == [0] * WORKERS

    listing = await store.list(WorkloadEndpoint)
    held = {(item.namespace, item.name): item for item in listing.items}
    await follower.until(lambda mirror: mirror == held)
    assert said == ["".join(f"{item.name} {item.revision}\n" for _, item in sorted(held.items()))] * WORKERS
    assert len(listing.items) == WORKERS * (ENDPOINTS + 1)
    counter = await store.get(NetworkPolicy, "counter", "shop")
    assert counter.metadata.labels["n"] == str(WORKERS * INCREMENTS)
    await follower.watch.aclose()


async def write_until_killed(store: Store, place: str) -> None:
    """What a killed worker was told is stored, and seen."""
    follower = Follower(store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision))
    acknowledged: dict[str, str] = {}
    for life in range(3):
        async with worker("write", place, f"life{life}") as process:
            assert process.stdout
            lines = [await process.stdout.readline() for _ in range(40 + life)]
            process.kill()
            lines += (await process.communicate())[0].splitlines(keepends=True)
        whole = (line.decode().split() for line in lines if line.endswith(b"\n"))
        acknowledged.update((name, revision) for name, revision in whole)
        await follower.until_sees(max(acknowledged, key=lambda name: (name[:5], int(name.partition("-")[2]))))
    stored = {item.name: item.revision for item in (await store.list(WorkloadEndpoint)).items}
    assert {name: stored[name] for name in acknowledged} == acknowledged
    assert len(set(stored.values())) == len(stored)
    assert len(stored) <= len(acknowledged) + 3  # of each life, one more may have been committed but not told
    await follower.watch.aclose()
