"""Invariant 1 on several nodes: conflicts, lost, late and refused answers, crashes between any two store calls.

Hypothesis chooses which call is answered next and how. After every step no address has two owners and no ready blocks
overlap; an address that was given and not asked back is its owner's; and a handle that nobody works on, and of which no
intent says that something may be in flight, owns exactly what it was given. At the end, with everything that was lost
landed and every handle deleted, nothing is owned and every address can be given again.

Nodes see of two overlapping pools one each, reservations come and go, some handles ask for one certain address, and a
node may be limited in its blocks: nobody is given a reserved address but who asked for it, and who asked for one gets
that or none.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from datastore.errors import StoreError
from datastore.memory import MemoryStore
from datastore.resources.ippool import IPPool
from ipam.allocator import Settings, Wanted
from ipam.block import Address, Among, Held, Owner
from ipam.errors import IpamError
from ipam.handles import Hold
from tests.ipam.world import Clock, Fate, Node, blocks_of, owners, pool, reservation

POOL = IPv4Network("10.65.0.0/28")
NODES = ("node-1", "node-2", "node-3")
HANDLES = tuple(f"h{number}" for number in range(6))
SKEW = {"node-1": 0.0, "node-2": -50.0, "node-3": 400.0}
SMALL, LARGE = pool("small", str(POOL), 30), pool("large", str(POOL), 29)
"""They overlap: wherever both are seen, only the first by name is used."""
RESERVATIONS = ((), ("10.65.0.0/30",), ("10.65.0.2", "10.65.0.5/32"), ("10.65.0.0/28",))


class SkewedClock(Clock):
    def __init__(self, true: Clock, skew: float) -> None:
        super().__init__()
        self._true, self._skew = true, skew

    def __call__(self) -> float:
        return self._true.now + self._skew


@dataclass
class Machine:
    """One node with what survives its crashes (the folder, the records) and what doesn't."""

    node: Node
    records: dict[str, tuple[Held, ...]] = field(default_factory=dict)
    journal: set[str] = field(default_factory=set)
    """Handles whose removal has begun and isn't finished."""
    running: dict["asyncio.Task[None]", str] = field(default_factory=dict)


class Addresses(RuleBasedStateMachine):
    """Handles belong to one node each, as containers do."""

    late = Bundle("late")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.store = MemoryStore()
        self.clock = Clock()
        self.machines: dict[str, Machine] = {}
        self.given: dict[str, tuple[Held, ...]] = {}
        self.reserved: tuple[str, ...] = ()
        self.limit = 0
        self.sees: dict[str, tuple[IPPool, ...]] = {}
        self.landing: list[Any] = []
        self.dead: list[Any] = []
        """Calls of crashed nodes, which nobody will ever answer."""

    def teardown(self) -> None:
        try:
            self.check_that_everything_comes_back()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.run(ended(tasks))
            self.loop.close()
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        return self.loop.run_until_complete(work)

    @initialize(
        seen=st.one_of(
            st.just([(SMALL,)] * len(NODES)),
            st.lists(st.sampled_from([(SMALL,), (LARGE,), (SMALL, LARGE)]), min_size=len(NODES), max_size=len(NODES)),
        ),
        limit=st.sampled_from([0, 0, 1]),
    )
    def pools(self, seen: list[tuple[IPPool, ...]], limit: int) -> None:
        self.run(self.store.create(SMALL))
        self.run(self.store.create(LARGE))
        self.sees, self.limit = dict(zip(NODES, seen, strict=True)), limit
        for name in NODES:
            self.machines[name] = Machine(self.started(name))

    def started(self, name: str) -> Node:
        node = Node(name, self.store, self.folder, SkewedClock(self.clock, SKEW[name]))
        node.allocator.set_pools(self.sees[name])
        node.allocator.set_reservations([reservation(*self.reserved)])
        node.allocator.settings = Settings(max_blocks=self.limit)
        self.run(node.allocator.load())
        node.gate.open = False
        return node

    @rule(
        number=st.integers(0, len(HANDLES) - 1),
        asked=st.sampled_from([(), (), ("small",), ("large", "small")]),
        place=st.sampled_from([None, None, None, 0, 2, 5, 9]),
    )
    def add(self, number: int, asked: tuple[str, ...], place: int | None) -> None:
        machine, handle = self.home(number)
        only = None if place is None else POOL[place]
        self.start(machine, handle, self.adding(machine, handle, asked, only))

    @rule(reserved=st.sampled_from(RESERVATIONS))
    def reserve(self, reserved: tuple[str, ...]) -> None:
        self.reserved = reserved
        for machine in self.machines.values():
            machine.node.allocator.set_reservations([reservation(*reserved)])

    @rule(number=st.integers(0, len(HANDLES) - 1))
    def delete(self, number: int) -> None:
        machine, handle = self.home(number)
        self.start(machine, handle, self.deleting(machine, handle))

    @rule(name=st.sampled_from(NODES))
    def give_back(self, name: str) -> None:
        machine = self.machines[name]

        async def nothing() -> None:
            await asyncio.sleep(0)

        async def giving() -> None:
            await machine.node.allocator.give_back(nothing)

        self.start(machine, "", giving())

    @precondition(lambda self: any(machine.node.gate.waiting for machine in self.machines.values()))
    @rule(
        choice=st.integers(0, 1000),
        fate=st.sampled_from([Fate.OK, Fate.OK, Fate.ANSWER_LOST, Fate.LOST, Fate.LATE, Fate.LATE, Fate.REFUSED]),
    )
    def answer(self, choice: int, fate: Fate) -> None:
        waiting = [(m.node.gate, one) for m in self.machines.values() for one in m.node.gate.waiting]
        gate, pending = waiting[choice % len(waiting)]
        gate.waiting.remove(pending)
        if not pending.writes and fate is not Fate.REFUSED:
            fate = Fate.OK
        pending.fate.set_result(fate)
        self.run(idle())
        self.landing += gate.late
        gate.late.clear()

    @precondition(lambda self: any(machine.node.gate.waiting for machine in self.machines.values()))
    @rule()
    def answer_everything(self) -> None:
        for _ in range(3):
            for machine in self.machines.values():
                for pending in list(machine.node.gate.waiting):
                    machine.node.gate.waiting.remove(pending)
                    pending.fate.set_result(Fate.OK)
            self.run(idle())

    @precondition(lambda self: bool(self.landing))
    @rule(choice=st.integers(0, 1000))
    def a_late_write_lands(self, choice: int) -> None:
        self.run(landed(self.landing.pop(choice % len(self.landing))))

    @rule(name=st.sampled_from(NODES), writes_may_land=st.booleans())
    def crash(self, name: str, writes_may_land: bool) -> None:
        machine = self.machines[name]
        if writes_may_land:
            self.landing += [pending.call for pending in machine.node.gate.waiting if pending.writes]
        self.dead += machine.node.gate.waiting
        machine.node.gate.waiting = []
        for task in list(machine.running):
            task.cancel()
        self.run(idle())
        machine.node = self.started(name)

    @rule(seconds=st.sampled_from([1, 31, 301]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def no_address_has_two_owners_and_no_ready_blocks_overlap(self) -> None:
        self.run(owners(self.store))
        ready = [block.network for block in self.run(blocks_of(self.store)) if block.record.spec.ready]
        assert not any(a.overlaps(b) for place, a in enumerate(ready) for b in ready[:place]), ready

    @invariant()
    def what_was_given_and_not_asked_back_is_still_its_owners(self) -> None:
        blocks = {block.name: block for block in self.run(blocks_of(self.store))}
        for handle, held in self.given.items():
            for one in held:
                found = blocks[one.block].record.spec.allocations.get(str(one.ordinal))
                assert found is not None, f"{one} of {handle} is gone"
                assert found.handle == handle  # the id is newer while the handle's own next ADD is under way

    @invariant()
    def a_handle_without_work_or_intent_owns_exactly_what_it_was_given(self) -> None:
        if not self.machines:
            return
        owned: dict[str, set[Address]] = {}
        for address, handle in self.run(owners(self.store)).items():
            owned.setdefault(handle, set()).add(address)
        busy = {handle for machine in self.machines.values() for handle in machine.running.values()}
        for number, handle in enumerate(HANDLES):
            machine, _ = self.home(number)
            if handle in busy | machine.journal or machine.node.handles.is_uncertain(handle):
                continue
            given = {one.address for one in self.given.get(handle, ())}
            assert owned.get(handle, set()) == given, f"{handle} owns what nobody was told, or the other way round"

    # What a node does

    def home(self, number: int) -> tuple[Machine, str]:
        return self.machines[NODES[number % len(NODES)]], HANDLES[number]

    def start(self, machine: Machine, handle: str, work: Coroutine[Any, Any, None]) -> None:
        async def begin() -> None:
            task = asyncio.ensure_future(quietly(work))
            machine.running[task] = handle
            task.add_done_callback(lambda done: machine.running.pop(done, None))
            await idle()

        self.run(begin())

    async def adding(
        self, machine: Machine, handle: str, asked: tuple[str, ...] = (), only: IPv4Address | None = None
    ) -> None:
        node = machine.node
        async with node.handles.hold(handle) as hold:
            if handle in machine.journal:
                await self.remove(machine, handle, hold)
            # A handle that has something is adopted with it, as a running pod's is.
            again = handle in machine.records
            wanted = Wanted((4,), {4: asked}, {} if only is None or again else {4: Among.only(only)})
            reserved = self.reserved
            held = await node.allocator.assign(Owner(handle, node.name), wanted, hold, again=again)
            if wanted.among:
                assert [one.address for one in held] == [only], "what was asked for, or nothing"
            elif held[0].fresh and self.reserved == reserved:
                assert not any(held[0].address in IPv4Network(cidr) for cidr in reserved), f"{held} is reserved"
            machine.records[handle] = held
            hold.settle()
            self.given[handle] = held

    async def deleting(self, machine: Machine, handle: str) -> None:
        async with machine.node.handles.hold(handle) as hold:
            machine.journal.add(handle)
            self.given.pop(handle, None)
            await self.remove(machine, handle, hold)

    async def remove(self, machine: Machine, handle: str, hold: Hold) -> None:
        held = machine.records.get(handle)
        if held is None or hold.uncertain:
            await machine.node.allocator.release_handle(handle, hold)
        else:
            await machine.node.allocator.release(held)
        machine.records.pop(handle, None)
        machine.journal.discard(handle)
        hold.settle()

    # The end

    def check_that_everything_comes_back(self) -> None:
        if not self.machines:
            return
        for name in NODES:
            self.crash(name, writes_may_land=True)
        while self.landing:
            self.run(landed(self.landing.pop()))
        self.given.clear()
        self.reserve(())
        for machine in self.machines.values():
            machine.node.gate.open = True
            machine.node.allocator.settings = Settings()
        for number in range(len(HANDLES)):
            machine, handle = self.home(number)
            machine.records.pop(handle, None)
            self.run(self.deleting(machine, handle))
        assert self.run(owners(self.store)) == {}
        self.clock.now += 1000
        self.check_that_every_address_can_be_given()

    def check_that_every_address_can_be_given(self) -> None:
        async def nothing() -> None:
            await asyncio.sleep(0)

        for machine in self.machines.values():
            self.run(machine.node.allocator.load())  # as a node does now and then, for what landed late
            self.run(machine.node.allocator.give_back(nothing))
        assert self.run(blocks_of(self.store)) == [], "whatever is empty is given back, ready or not"
        machine = self.machines["node-1"]
        machine.node.allocator.set_pools([SMALL])
        for number in range(POOL.num_addresses):
            self.run(self.adding(machine, f"last{number}"))
        assert len(self.run(owners(self.store))) == POOL.num_addresses


async def idle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def ended(tasks: set["asyncio.Task[Any]"]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(IpamError, StoreError):
        await work


async def landed(call: Any) -> None:  # noqa: ANN401
    with contextlib.suppress(StoreError):
        await call()


TestAddresses = Addresses.TestCase
TestAddresses.settings = settings(max_examples=150, stateful_step_count=60)
