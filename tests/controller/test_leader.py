"""Of several candidates one leads; who can't write stops, and another takes over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from controller.leader import NAME, Election, Timing
from datastore.memory import MemoryStore
from datastore.resources.lease import Lease
from datastore.store import Store
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.ipam.world import Clock

Work = Callable[[], Awaitable[None]]
TIMING = Timing(duration_s=15, deadline_s=10, every_s=0.01)


class Candidate:
    """An election that is run, and whether its work goes on."""

    def __init__(
        self, store: Store, name: str, clock: Clock, work: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.election = Election(store, name, "kube-system", TIMING, clock)
        self.working = False
        self._work = work or self._until_cancelled
        self.task = asyncio.ensure_future(self.election.run(self._work))

    async def _until_cancelled(self) -> None:
        self.working = True
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def leads(self) -> None:
        await until(lambda: self.working)

    async def rests(self) -> None:
        await until(lambda: not self.working)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not so():
            await asyncio.sleep(0.001)


async def lease(store: MemoryStore) -> Lease:
    return await store.get(Lease, NAME, "kube-system")


async def renewed(store: MemoryStore, times: int = 3) -> None:
    """Return when the Lease has been written so many times."""
    seen: set[str] = set()
    async with asyncio.timeout(20):
        while len(seen) <= times:
            seen.add((await lease(store)).revision)
            await asyncio.sleep(0.001)


class Looks:
    """Counts a candidate's looks at the Lease."""

    def __init__(self) -> None:
        self.number = 0

    async def count(self, call: Call) -> Fate:
        self.number += call.verb == "get"
        return Fate.OK

    async def more(self) -> None:
        """Return when there were three more."""
        wanted = self.number + 3
        await until(lambda: self.number >= wanted)


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self.candidates: list[Candidate] = []

    def candidate(self, name: str, store: Store | None = None, clock: Clock | None = None) -> Candidate:
        self.candidates.append(Candidate(store or self.store, name, clock or self.clock))
        return self.candidates[-1]


@asynccontextmanager
async def worlds() -> AsyncIterator[World]:
    made = World()
    try:
        yield made
    finally:
        for candidate in made.candidates:
            await candidate.end()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds() as made:
        yield made


async def test_the_first_leads_and_the_second_waits_as_long_as_it_renews(world: World) -> None:
    first = world.candidate("a")
    await first.leads()
    second = world.candidate("b")
    for _ in range(5):
        world.clock.now += 14
        await renewed(world.store)
    assert (first.working, second.working) == (True, False)
    assert (first.election.leads, second.election.leads, second.election.holder) == (True, False, "a")
    spec = (await lease(world.store)).spec
    assert (spec.holder_identity, spec.lease_transitions, spec.lease_duration_seconds) == ("a", 0, 15)
    assert spec.acquire_time is not None
    assert spec.renew_time is not None
    assert spec.acquire_time < spec.renew_time


async def test_a_leader_that_cannot_write_stops_and_another_takes_over_once_the_lease_runs_out(world: World) -> None:
    cut = FaultyStore(world.store)
    own = Clock()
    first = world.candidate("a", cut, own)
    await first.leads()
    looks = Looks()
    second = world.candidate("b", FaultyStore(world.store, looks.count))
    await until(lambda: second.election.holder == "a")

    async def refused(_: Call) -> Fate:
        return Fate.REFUSED

    cut.gate = refused
    before = await lease(world.store)
    own.now += 9
    await until(lambda: bool(first.election.failure))
    assert first.working
    own.now += 2
    await first.rests()
    world.clock.now += 14
    await looks.more()
    assert (second.working, (await lease(world.store)).revision) == (False, before.revision)
    world.clock.now += 2
    await second.leads()
    spec = (await lease(world.store)).spec
    assert (spec.holder_identity, spec.lease_transitions) == ("b", 1)


async def test_a_store_that_does_not_answer_is_as_one_that_refuses(world: World) -> None:
    cut, own = FaultyStore(world.store), Clock()
    first = Candidate(cut, "a", own)
    first.election._timing = Timing(duration_s=15, deadline_s=0.2, every_s=0.01)
    world.candidates.append(first)
    await first.leads()
    silence = asyncio.Event()

    async def silent(_: Call) -> Fate:
        await silence.wait()
        return Fate.OK

    cut.gate = silent
    own.now += 0.1
    await until(lambda: first.election.failure == "the datastore doesn't answer")
    own.now += 0.2
    await first.rests()
    silence.set()


async def test_one_that_ends_gives_the_lease_up_and_the_next_takes_it_at_once(world: World) -> None:
    first = world.candidate("a")
    await first.leads()
    await first.end()
    assert (await lease(world.store)).spec.holder_identity == ""
    await world.candidate("b").leads()


async def test_one_that_ends_leaves_anothers_lease_alone(world: World) -> None:
    await world.candidate("a").leads()
    second = world.candidate("b")
    await until(lambda: second.election.holder == "a")
    await second.end()
    assert (await lease(world.store)).spec.holder_identity == "a"


async def test_a_leader_whose_lease_was_taken_stops_at_once(world: World) -> None:
    first = world.candidate("a")
    await first.leads()
    async with asyncio.timeout(20):
        while first.working:
            found = await lease(world.store)
            spec = msgspec.structs.replace(found.spec, holder_identity="thief")
            try:
                await world.store.update(msgspec.structs.replace(found, spec=spec))
            except Exception:  # it was renewed just then
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
    await until(lambda: not first.election.leads)  # a turn or two of the loop after its work has ended


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.LOST_APPLIED])
async def test_a_lost_answer_costs_nobody_the_lease(world: World, fate: Fate) -> None:
    fates = [fate] * 3

    async def lossy(call: Call) -> Fate:
        return fates.pop() if fates and call.verb in ("create", "update") else Fate.OK

    first = world.candidate("a", FaultyStore(world.store, lossy))
    await first.leads()
    await renewed(world.store)
    assert (first.working, fates) == (True, [])
    assert (await lease(world.store)).spec.lease_transitions == 0


async def test_a_mistake_in_the_work_ends_the_candidate_and_frees_the_lease(world: World) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    first = Candidate(world.store, "a", world.clock, broken)
    with pytest.raises(ZeroDivisionError):
        await first.task
    assert (await lease(world.store)).spec.holder_identity == ""


async def test_a_leader_that_was_stopped_for_a_while_isnt_sure_any_more() -> None:
    clock = Clock()
    one = Candidate(MemoryStore(), "a", clock)
    await one.leads()
    assert one.election.surely_leads()
    clock.now += TIMING.deadline_s
    assert (one.election.leads, one.election.surely_leads()) == (True, False)
    await until(one.election.surely_leads)
    await one.end()
    assert not one.election.surely_leads()
