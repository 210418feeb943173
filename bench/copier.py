"""Kubernetes' Pods copied into an etcd by the controller: from nothing, by the next leader, and one that changes.

    python -m bench.copier [--pods 10000] [--changes 50]

The API's side is a store in memory, so what is measured is the copy: judging, and writing to one real etcd. Memory is
this process's, once it has everything, beside what it was before the copier was made.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from bench import servers
from bench.report import Summary, circumstances
from controller.copier import Copier
from datastore.memory import MemoryStore
from datastore.resources.kubernetes import Pod, PodIP, PodSpec, PodStatus
from datastore.resources.value import Metadata
from datastore.store import Gone, Store
from datastore.urls import open_store

_LOOK_S = 0.01


def pod(number: int) -> Pod:
    """One that runs."""
    address = f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"
    return Pod(
        metadata=Metadata(
            name=f"web-{number}", namespace="shop", uid=f"u{number}", labels={"app": f"web-{number % 200}"}
        ),
        spec=PodSpec(node_name=f"node-{number % 100}"),
        status=PodStatus(phase="Running", pod_ip=address, pod_ips=(PodIP(ip=address),)),
    )


@asynccontextmanager
async def copying(api: Store, store: Store) -> AsyncIterator[Copier]:
    """A leader's copier at work."""
    copier = Copier(api, store)
    works: list[Awaitable[None]] = [copier.run(), *(sync.run() for sync in copier.syncs)]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield copier
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def done(copier: Copier, pods: int) -> float:
    """Seconds until every pod is in the datastore as it is."""
    began = time.perf_counter()
    ledger = copier.ledgers[Pod]
    while not ledger.complete or ledger.objects < pods or ledger.due:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(_LOOK_S)
    return time.perf_counter() - began


async def changed(api: Store, store: Store, number: int, turn: int) -> float:
    """Seconds from a pod's new label in the API to a watcher of the datastore."""
    name, label = f"web-{number}", f"turn-{turn}"
    revision = (await store.list(Pod)).revision
    found = await api.get(Pod, name, "shop")
    metadata = msgspec.structs.replace(found.metadata, labels={"app": label})
    async with aclosing(store.watch(Pod, revision)) as batches:
        began = time.perf_counter()
        await api.update(msgspec.structs.replace(found, metadata=metadata))
        async for batch in batches:
            for one in batch.changes:
                if not isinstance(one, Gone) and one.name == name and one.metadata.labels == {"app": label}:
                    return time.perf_counter() - began
    raise AssertionError("a watch doesn't end")


def resident_mib() -> float:
    """Of this process (proc(5), VmRSS)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def measure(url: str, pods: int, changes: int) -> None:
    """Measure and tell."""
    api, store = MemoryStore(), await open_store(url)
    for number in range(pods):
        await api.create(pod(number))
    before = resident_mib()
    async with copying(api, store) as copier:
        seconds = await done(copier, pods)
        writes = sum(copier.done.values())
        print(f"from nothing: {seconds:.1f} s, {writes} writes, {resident_mib() - before:.0f} MiB")
    async with copying(api, store) as copier:
        seconds = await done(copier, pods)
        print(f"the next leader: {seconds:.2f} s, {sum(copier.done.values())} writes")
        taken = [await changed(api, store, turn * pods // changes, turn) for turn in range(changes)]
        print(f"a change, until a watcher has it: {Summary.of(taken)}, the slowest {max(taken) * 1e3:.0f} ms")
    await store.close()
    await api.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=50)
    given = parser.parse_args()
    print("; ".join(f"{key} {value}" for key, value in circumstances().items()))
    with servers.server("etcd") as url:
        asyncio.run(measure(url, given.pods, given.changes))


if __name__ == "__main__":
    main()
