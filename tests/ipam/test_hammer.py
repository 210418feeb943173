"""Eight processes on four nodes that take and give back addresses on a real server, one of them killed every second.

TORTIE_HAMMER=2000 is the whole of it; CI does a little, so that every server is hammered each time.
"""

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from datastore.store import Store
from datastore.urls import open_store
from ipam import survey
from ipam.block import Block
from ipam.findings import Fault
from ipam.handles import Handles
from tests.datastore.places import PLACES, Place
from tests.ipam.hammer import allocator_of, settled, told

COUNT = int(os.environ.get("TORTIE_HAMMER", "40"))
NODES = ("node-1", "node-2", "node-3", "node-4")
EACH_S = 1.0
"""Between two kills."""
STORES: Mapping[str, Callable[[Path], Place]] = {
    "SQLite": lambda folder: Place(f"sqlite://{folder}/tortie.db"),
    **{name: place for name, place in PLACES.items() if "socket" not in name},
}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tt-hammer-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


class Workers:
    """Two processes a node."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self.kills = 0
        self._told_at_start: dict[tuple[str, str], int] = {}
        self._running = {(node, side): self._started(node, side) for node in NODES for side in "ab"}

    def _started(self, node: str, side: str) -> "subprocess.Popen[bytes]":
        (self._folder / node).mkdir(exist_ok=True)
        self._told_at_start[node, side] = self._told(node, side)
        arguments = (self._url, node, f"{node}-{side}", str(self._folder / node), str(COUNT))
        return subprocess.Popen([sys.executable, "-m", "tests.ipam.hammer", *arguments])

    def run(self, chance: random.Random) -> None:
        """Until all are done; each second one is killed that has got on since it was started, else none would end."""
        while True:
            limit = time.monotonic() + EACH_S
            while time.monotonic() < limit and self._alive():
                time.sleep(0.05)
            if not self._alive():
                break
            at_work = [one for one in self._alive() if self._told(*one) > self._told_at_start[one]]
            if not at_work:
                continue
            one = chance.choice(at_work)
            self._running[one].kill()
            self._running[one].wait()
            self.kills += 1
            self._running[one] = self._started(*one)
        assert [process.returncode for process in self._running.values()] == [0] * 8

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def _told(self, node: str, side: str) -> int:
        path = self._folder / node / f"{node}-{side}.told"
        return path.stat().st_size if path.exists() else 0

    def _alive(self) -> list[tuple[str, str]]:
        return sorted(key for key, process in self._running.items() if process.poll() is None)


async def prepared(url: str) -> None:
    store = await open_store(url)
    await store.create(IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr="10.65.0.0/18", block_size=28)))
    await store.close()


async def judged(url: str, folder: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """What was told and not given back; who owns what, by the blocks alone; what `ipam check` says."""
    store = await open_store(url)
    try:
        expected: dict[str, str] = {}
        for node in NODES:
            await settled(allocator_of(store, node), Handles(folder / node / "handles"), folder / node)
            expected |= told(folder / node)
        owned = await _owned(store)
        findings = await survey.found_in(store, time.time, asyncio.sleep)
        # These processes are no agents: nobody writes the nodes' blocks into their Nodes.
        return expected, owned, [str(one) for one in findings if one.fault is not Fault.STALE_NODE]
    finally:
        await store.close()


async def _owned(store: Store) -> dict[str, str]:
    found: dict[str, str] = {}
    seen: set[str] = set()
    for block in [Block.read(record) for record in (await store.list(IPBlock)).items]:
        for ordinal, allocation in block.record.spec.allocations.items():
            address = str(block.address_of(int(ordinal)))
            assert address not in seen, f"{address} has two owners"
            assert allocation.handle not in found, f"{allocation.handle} has two addresses"
            seen.add(address)
            found[allocation.handle] = str(ip_address(address))
    return found


@pytest.mark.timeout(300 + 2 * COUNT)
@pytest.mark.parametrize("name", STORES)
def test_nothing_is_given_twice_or_lost_while_processes_are_killed(folder: Path, name: str) -> None:
    url = STORES[name](folder).url
    asyncio.run(prepared(url))
    workers = Workers(url, folder)
    try:
        workers.run(random.Random(name))  # noqa: S311
    finally:
        workers.stop()
    expected, owned, findings = asyncio.run(judged(url, folder))
    assert owned == expected
    assert len(expected) >= 8 * len(range(0, COUNT, 5))  # who was killed before giving back keeps it
    assert findings == []
    assert workers.kills
