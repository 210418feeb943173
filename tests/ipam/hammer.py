"""A process that takes and gives back addresses until it is done or killed, for test_hammer.

    python -m tests.ipam.hammer URL NODE NAME FOLDER COUNT

FOLDER is the node's, shared by its processes: the handles' locks, and what each was told, a line each (`+ handle
address`, `- handle`), written before anybody could act on it. Started again under its NAME it first undoes what died
half-way on its node, as an agent does, and goes on where it was. Every fifth address is kept.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from datastore.errors import StoreError
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from datastore.store import Store
from datastore.urls import open_store
from ipam.allocator import Allocator, Settings, Wanted
from ipam.block import Owner
from ipam.errors import IpamError
from ipam.handles import Handles
from ipam.identity import claim

KEPT = 5
"""Of so many addresses one is kept."""


def told(folder: Path) -> dict[str, str]:
    """What the processes of a node were given and have not given back: addresses by handle."""
    held: dict[str, str] = {}
    for line in _lines(folder):
        sign, handle, *address = line.split()
        if sign == "+":
            held[handle] = address[0]
        else:
            held.pop(handle, None)
    return held


def _lines(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.told")):
        yield from (line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))


async def settled(allocator: Allocator, handles: Handles, folder: Path) -> None:
    """Give back what nobody was told of, of those that died."""
    for handle in handles.abandoned():
        async with handles.hold(handle) as hold:
            if handle not in told(folder):
                await allocator.release_handle(handle, hold)
            hold.settle()


class Journal:
    """What one process was told."""

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / f"{name}.told"
        before = path.read_text() if path.exists() else ""
        whole = before[: before.rfind("\n") + 1]
        self.taken = whole.count("+ ")
        self._file = path.open("r+" if path.exists() else "w")
        self._file.truncate(len(whole))
        self._file.seek(len(whole))

    def write(self, line: str) -> None:
        """Note it, so that a SIGKILL doesn't unwrite it."""
        self._file.write(f"{line}\n")
        self._file.flush()


async def hammer(store: Store, node: str, name: str, folder: Path, count: int) -> None:
    """Take and give back until `count` have been taken under this name."""
    allocator, handles, journal = allocator_of(store, node), Handles(folder / "handles"), Journal(folder, name)
    while True:
        try:
            await claim(store, Node(metadata=Metadata(name=node), spec=NodeSpec(machine=f"machine-of-{node}")))
            await allocator.load()
            await settled(allocator, handles, folder)
            break
        except (StoreError, IpamError):
            await asyncio.sleep(0.1)
    for number in range(journal.taken, count):
        handle = f"manual/{name}-{number}"
        await _until_done(lambda handle=handle: take(allocator, handles, journal, node, handle))  # type: ignore[misc]
        if number % KEPT:
            await _until_done(lambda handle=handle: give_back(allocator, handles, journal, handle))  # type: ignore[misc]


def allocator_of(store: Store, node: str) -> Allocator:
    """A node's, without a cooldown."""
    allocator = Allocator(store, node, f"machine-of-{node}")
    allocator.settings = Settings(cooldown_s=0)
    return allocator


async def take(allocator: Allocator, handles: Handles, journal: Journal, node: str, handle: str) -> None:
    async with handles.hold(handle) as hold:
        (held,) = await allocator.assign(Owner(handle, node), Wanted((4,)), hold, again=hold.uncertain)
        journal.write(f"+ {handle} {held.address}")
        hold.settle()


async def give_back(allocator: Allocator, handles: Handles, journal: Journal, handle: str) -> None:
    async with handles.hold(handle) as hold:
        hold.intend()
        journal.write(f"- {handle}")
        await allocator.release_handle(handle, hold)
        hold.settle()


async def _until_done(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
            return
        except (StoreError, IpamError):
            await asyncio.sleep(0.05)


async def _opened(url: str) -> Store:
    """The store, as soon as its server answers: on a busy machine a connection may take longer than a driver waits."""
    while True:
        try:
            return await open_store(url)
        except StoreError:
            await asyncio.sleep(0.1)


async def main() -> None:
    url, node, name, folder, count = sys.argv[1:]
    store = await _opened(url)
    await hammer(store, node, name, Path(folder), int(count))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
