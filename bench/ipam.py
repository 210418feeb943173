"""Assigning addresses: how many a second, how long one takes, and how near that comes to bare compare-and-swap.

    python -m bench.ipam [--stores sqlite,postgresql,etcd,kubernetes] [--rounds 15] [--json]

For each store, in one run:
    one caller      assign, then a bare swap of the same bytes, in turn; the ratio of their medians
    N callers       on one node and on 50, in rounds that alternate with bare swaps, one at a time and 32 in flight;
                    conflicts for each assign, and writes for each assign
    many blocks     one caller again, with 2,000 blocks of other nodes in the store
Releases lie between the rounds and aren't timed; cooldown is zero so that blocks are used again. The records and
locks of a node's handles are left out (the note of what was sent is in): this is about the store.
"""

import argparse
import asyncio
import gc
import statistics
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from typing import TypeVar

from bench.raw import Raw, in_flight, raw_on
from bench.report import Summary, as_json, circumstances
from bench.servers import STORES, server
from datastore.codec import encode
from datastore.errors import AlreadyExists, Conflict
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata, Resource
from datastore.store import Batch, Listing, Revision, Store, Where
from datastore.urls import open_store
from ipam.allocator import Allocator, Settings, Wanted
from ipam.block import Held, Owner, new_block
from ipam.handles import Handles, Hold

R = TypeVar("R", bound=Resource)
POOL = "bench"
CIDR = "10.64.0.0/10"
NODES = 50
CALLERS = (1, 8, 32)
EACH = 12
"""Assigns of each caller in a round."""
OTHERS = 2_000
WANTED = Wanted((4,))


@dataclass
class Counting:
    """A store that counts writes and conflicts, and remembers the last block written."""

    inner: Store
    reads: int = 0
    writes: int = 0
    conflicts: int = 0
    last: IPBlock | None = None

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        self.reads += 1
        return await self.inner.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        self.reads += 1
        return await self.inner.list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`."""
        return self.inner.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        self.writes += 1
        try:
            return await self.inner.create(resource)
        except AlreadyExists:
            self.conflicts += 1
            raise

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        self.writes += 1
        if isinstance(resource, IPBlock):
            self.last = resource
        try:
            return await self.inner.update(resource)
        except Conflict:
            self.conflicts += 1
            raise

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        self.writes += 1
        await self.inner.delete(resource)

    async def close(self) -> None:
        """Nothing: the inner store is its opener's."""


@dataclass
class Cluster:
    """Nodes' allocators on one store, and what they hold."""

    store: Counting
    handles: Handles
    allocators: list[Allocator]
    numbers: "count[int]" = field(default_factory=count)
    held: list[tuple[Allocator, Held]] = field(default_factory=list)

    @asynccontextmanager
    async def pods(self, many: int) -> AsyncIterator[list[tuple[int, Hold]]]:
        """The numbers of so many new pods, with their handles, held."""
        async with AsyncExitStack() as stack:
            numbers = [next(self.numbers) for _ in range(many)]
            yield [
                (number, await stack.enter_async_context(self.handles.hold(f"podnet-{number:060x}-eth0")))
                for number in numbers
            ]

    async def assign(self, node: int, number: int, hold: Hold) -> float:
        """One address for a new pod of a node; seconds."""
        allocator = self.allocators[node % len(self.allocators)]
        owner = Owner(hold.handle, f"node-{node}", f"web-{number}", "shop", f"{number:032x}")
        began = asyncio.get_running_loop().time()
        (held,) = await allocator.assign(owner, WANTED, hold)
        took = asyncio.get_running_loop().time() - began
        hold.settle()
        self.held.append((allocator, held))
        return took

    async def free(self) -> None:
        """Give everything back."""
        by_allocator: dict[int, list[Held]] = {}
        for allocator, held in self.held:
            by_allocator.setdefault(id(allocator), []).append(held)
        found = {id(allocator): allocator for allocator, _ in self.held}
        await asyncio.gather(*(found[key].release(held) for key, held in by_allocator.items()))
        self.held.clear()


@dataclass(frozen=True, slots=True)
class Rate:
    """N callers on some nodes."""

    callers: int
    nodes: int
    per_s: float
    median_ms: float
    conflicts: float
    writes: float


@dataclass(frozen=True, slots=True)
class Result:
    """One store's figures."""

    store: str
    body_bytes: int
    assign: Summary
    raw: Summary
    raw_per_s: float
    raw_32_per_s: float
    rates: tuple[Rate, ...]
    among_others: Summary
    """One caller with `OTHERS` blocks of other nodes in the store."""


async def measured(name: str, url: str, rounds: int) -> Result:
    """Everything of one store."""
    with tempfile.TemporaryDirectory(prefix="tortie-bench-") as text:
        folder = Path(text)
        async with raw_on(url, folder) as raw, opened(url) as store:
            await store.create(IPPool(metadata=Metadata(name=POOL), spec=IPPoolSpec(cidr=CIDR)))
            one = await cluster(store, folder, 1)
            assigns, swaps, body = await in_turn(one, raw, rounds * 20)
            many = await cluster(store, folder, NODES)
            rates, raw_1, raw_32 = await callers(one, many, raw, body, rounds)
            await others(store)
            gc.collect()
            late, _, _ = await in_turn(one, raw, rounds * 5, "late")
            return Result(
                name, len(body), Summary.of(assigns), Summary.of(swaps), raw_1, raw_32, rates, Summary.of(late)
            )


async def in_turn(one: Cluster, raw: Raw, runs: int, key: str = "one") -> tuple[list[float], list[float], bytes]:
    """Assigns and bare swaps of the same bytes, one after the other."""
    loop = asyncio.get_running_loop()
    await one_more(one)
    body = encode(one.store.last) if one.store.last is not None else b""
    await raw.put(key, body)
    assigns, swaps = [], []
    for number in range(runs):
        if number % 40 == 39:
            await one.free()
        assigns.append(await one_more(one))
        if one.store.last is not None:
            body = encode(one.store.last)
        began = loop.time()
        await raw.swap(key, body)
        swaps.append(loop.time() - began)
    await one.free()
    return assigns, swaps, body


async def callers(
    one: Cluster, many: Cluster, raw: Raw, body: bytes, rounds: int
) -> tuple[tuple[Rate, ...], float, float]:
    """Rates with several callers, in rounds that alternate with bare swaps."""
    keys = {f"flight-{number}": body for number in range(32)}
    for key in keys:
        await raw.put(key, body)
    single, flights = [], []
    series: dict[tuple[int, int], list[tuple[float, list[float], int, int]]] = {}
    await round_of(many, NODES)  # each node claims its block outside the measurement
    await many.free()
    for turn in range(rounds + 1):
        for where, nodes in ((one, 1), (many, NODES)):
            for number in CALLERS:
                before = where.store.conflicts, where.store.writes
                rate, times = await round_of(where, number)
                after = where.store.conflicts - before[0], where.store.writes - before[1]
                await where.free()
                if turn:  # the first warms up
                    series.setdefault((number, nodes), []).append((rate, times, *after))
        rates = await in_flight(raw, {"flight-0": body}, 4 * EACH), await in_flight(raw, keys, EACH)
        single.append(rates[0])
        flights.append(rates[1])
    found = tuple(Rate(number, nodes, *_told(series[number, nodes], number * EACH)) for number, nodes in sorted(series))
    return found, statistics.median(single[1:]), statistics.median(flights[1:])


def _told(rounds: Sequence[tuple[float, list[float], int, int]], assigns: int) -> tuple[float, float, float, float]:
    times = [one for _, each, _, _ in rounds for one in each]
    total = assigns * len(rounds)
    return (
        statistics.median(rate for rate, *_ in rounds),
        statistics.median(times) * 1e3,
        sum(conflicts for *_, conflicts, _ in rounds) / total,
        sum(writes for *_, writes in rounds) / total,
    )


async def one_more(one: Cluster) -> float:
    """An address for one new pod on the only node; seconds."""
    async with one.pods(1) as [(number, hold)]:
        return await one.assign(0, number, hold)


async def round_of(where: Cluster, number: int) -> tuple[float, list[float]]:
    """`EACH` assigns by each of some callers, caller i on node i: assigns a second, and each one's time."""
    loop = asyncio.get_running_loop()

    async def caller(node: int, pods: Sequence[tuple[int, Hold]]) -> list[float]:
        return [await where.assign(node, number, hold) for number, hold in pods]

    async with where.pods(number * EACH) as pods:
        gc.collect()
        began = loop.time()
        times = await asyncio.gather(*(caller(node, pods[node::number]) for node in range(number)))
        took = loop.time() - began
    return number * EACH / took, [one for each in times for one in each]


async def cluster(store: Store, folder: Path, nodes: int) -> Cluster:
    """So many nodes, each with an allocator of its own."""
    counting = Counting(store)
    pool = await store.get(IPPool, POOL)
    allocators = []
    for number in range(nodes):
        allocator = Allocator(counting, f"node-{nodes}-{number}", f"machine-{number}")
        allocator.settings = Settings(cooldown_s=0)
        allocator.set_pools([pool])
        await allocator.load()
        allocators.append(allocator)
    return Cluster(counting, Handles(folder / f"handles-{nodes}"), allocators)


async def others(store: Store) -> None:
    """Blocks of other nodes, all over the pool."""
    there = {record.name for record in (await store.list(IPBlock)).items}
    every = list(IPv4Network(CIDR).subnets(new_prefix=26))
    blocks = [new_block(network, POOL, "elsewhere", "m", 0).made_ready() for network in every[:: len(every) // OTHERS]]
    records = [block.record for block in blocks if block.name not in there]
    for start in range(0, len(records), 50):
        await asyncio.gather(*(store.create(record) for record in records[start : start + 50]))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """The store, closed afterwards."""
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


def _tell(result: Result) -> None:
    print(f"\n{result.store}: blocks of {result.body_bytes} bytes at the end")
    ratio = result.raw.median_ms / result.assign.median_ms
    print(f"  one caller            {result.assign}")
    print(f"  bare swap, in turn    {result.raw}: {ratio:.2f} x bare")
    late = result.among_others.median_ms / result.assign.median_ms
    print(f"  with {OTHERS} other blocks {result.among_others}: {late:.2f} x as long")
    print(f"  bare swaps: {result.raw_per_s:.0f}/s one at a time, {result.raw_32_per_s:.0f}/s with 32 in flight")
    for rate in result.rates:
        print(
            f"  {rate.callers:2} callers on {rate.nodes:2} nodes: {rate.per_s:6.0f}/s, median {rate.median_ms:.2f} ms, "
            f"{rate.per_s / result.raw_per_s:.2f} x bare one at a time, {rate.per_s / result.raw_32_per_s:.2f} x 32 in "
            f"flight, {rate.conflicts:.3f} conflicts and {rate.writes:.2f} writes an assign"
        )


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", default=",".join(STORES), help="of " + ", ".join(STORES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    about = circumstances()
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    for name in given.stores.split(","):
        with server(name) as url:
            result = asyncio.run(measured(name, url, given.rounds))
        _tell(result)
        if given.json:
            print(as_json({"store": name, **about, "result": repr(result)}))


if __name__ == "__main__":
    main()
