"""A cluster moves to another datastore under load: whatever dies on the way, no address is lost or given twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.transfer import mark
from datastore.transfer.copying import Side
from datastore.transfer.migrate import abort, migrate
from ipam import survey
from ipam.audit import audit
from ipam.findings import Fault
from tests.datastore.drivers import DRIVERS
from tests.datastore.samples import policy
from tests.ipam.moving import Killed, Life, Load, Mortal, owners_in
from tests.ipam.world import no_pause, pool

NODES = ("node-1", "node-2")
FIRST, SECOND = "memory:first", "memory:second"


def untold(_: str) -> None:
    pass


@dataclass
class Move:
    """A move that is made under load and may die."""

    source: Side
    target: Side

    async def run(self, life: Life | None = None) -> None:
        life = life or Life(1_000_000)
        source, target = (Side(Mortal(side.store, life), side.url) for side in (self.source, self.target))
        await migrate(source, target, untold, pause=no_pause)

    async def give_up_if_it_can_be(self) -> None:
        migration = mark.migration_of(await mark.read(self.source.store))
        if migration is None or migration.phase != mark.MOVED:
            await abort(self.source, untold, pause=no_pause)

    async def check(self, load: Load) -> None:
        """Everything is in the target, and nothing is wrong there."""
        target = self.target.store
        assert await owners_in(target) == load.owners
        assert len(load.owners) == len(NODES)
        wrong = audit(await survey.read(target), load.clock())
        assert {one.fault for one in wrong} <= {Fault.NODE_GONE, Fault.LEAKED}  # there are no Nodes or endpoints
        assert all(block.spec.frozen for block in (await self.source.store.list(IPBlock)).items if block.spec.ready)
        assert not any(block.spec.frozen for block in (await target.list(IPBlock)).items)
        configuration = await mark.read(target)
        assert mark.migration_of(configuration) is None
        migration = mark.migration_of(await mark.read(self.source.store))
        assert migration is not None
        assert (migration.phase, mark.moved_by(configuration)) == (mark.MOVED, migration.id)
        assert (await target.get(type(policy()), "db", "shop")).spec == policy().spec


@asynccontextmanager
async def under_load(load: Load) -> AsyncIterator[None]:
    """Pods come and go until the end of the block; then each ends its round."""
    running = asyncio.create_task(load.run(*NODES))
    try:
        await load.until(lambda: sum(load.cycles.values()) >= 6)
        yield
        load.ending = True
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def moved_under_load(source: Side, target: Side, folder: Path, life: Life, *, gives_up: bool) -> bool:
    """Whether the migrator died of `life` before it had done everything."""
    await source.store.create(pool("blue", "10.65.0.0/26", 29))
    await source.store.create(policy())
    move = Move(source, target)
    load = Load({source.url: source.store, target.url: target.store}, folder)
    async with under_load(load):
        died = False
        try:
            await move.run(life)
        except Killed:
            died = True
            if gives_up:
                await move.give_up_if_it_can_be()
                await load.rounds(4)  # everybody works on, wherever he is
            await move.run()
        await load.until(lambda: set(load.where.values()) == {target.url})
        await load.rounds(1)
    await move.check(load)
    return died


@pytest.mark.parametrize("gives_up", [pytest.param(False, id="goes on"), pytest.param(True, id="gives up first")])
@pytest.mark.parametrize("after", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_a_move_under_load_loses_nothing_wherever_it_dies(tmp_path: Path, after: bool, gives_up: bool) -> None:
    died, writes = True, 0
    while died:
        life = Life(writes, after)
        sides = Side(MemoryStore(), FIRST), Side(MemoryStore(), SECOND)
        died = await moved_under_load(*sides, tmp_path / f"{writes}", life, gives_up=gives_up)
        writes += 1
    assert writes > 10  # two marks, blocks frozen and copied, pool and policy, left and opened


RING = ("memory", "sqlite-truncate", "postgresql", "etcd", "kubernetes")
PAIRS = [(one, other) for one, other in zip(RING, (*RING[1:], RING[0]), strict=True)]


@pytest.mark.parametrize(("left", "entered"), [*PAIRS, *((other, one) for one, other in PAIRS)])
async def test_a_move_under_load_from_and_to_each_driver(left: str, entered: str, tmp_path: Path) -> None:
    """Which two doesn't matter to each of them: all that is used is the contract."""
    async with AsyncExitStack() as stack:
        source, target = [await opened(name, tmp_path / name, stack) for name in (left, entered)]
        died = await moved_under_load(source, target, tmp_path / "nodes", Life(6), gives_up=False)
    assert died


async def opened(driver: str, folder: Path, stack: AsyncExitStack) -> Side:
    folder.mkdir()
    return Side(await DRIVERS[driver](folder, stack)(), f"{driver.partition('-')[0]}:")


@pytest.mark.parametrize("after", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_a_move_there_and_back_loses_nothing_though_a_node_never_followed(tmp_path: Path, after: bool) -> None:
    """The way back dies at every write, too; the node that stayed sees its datastore being filled anew."""
    writes = 0
    while await moved_there_and_back(tmp_path / f"{writes}", Life(writes, after)):
        writes += 1
    assert writes > 6


async def moved_there_and_back(folder: Path, life: Life) -> bool:
    """Whether the migrator died of `life` on the way back."""
    there = Move(Side(MemoryStore(), FIRST), Side(MemoryStore(), SECOND))
    back = Move(there.target, there.source)
    await there.source.store.create(pool("blue", "10.65.0.0/26", 29))
    await there.source.store.create(policy())
    load = Load({side.url: side.store for side in (there.source, there.target)}, folder, stubborn=frozenset({"node-2"}))
    async with under_load(load):
        await there.run()
        await load.until(lambda: load.where["node-1"] == SECOND)
        before = load.cycles["node-1"]
        await load.until(lambda: load.cycles["node-1"] >= before + 6)
        died = False
        try:
            await back.run(life)
        except Killed:
            died = True
            await back.run()
        await load.until(lambda: load.where["node-1"] == FIRST)
        await load.rounds(4)
    await back.check(load)
    return died
