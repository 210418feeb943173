"""What becomes of a batch when answers are refused, lost or late: each test steers every call of the store."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from datastore.errors import Invalid, Unavailable
from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from ipam.block import Block, Owner, new_block
from ipam.changes import Adopt, Assign, Release
from ipam.errors import BlockFull, IpamError, NotSettled
from ipam.group_commit import BlockWriter, Change, Moved
from ipam.mirror import Mirror
from tests.ipam.world import Fate, Gate, GatedStore, no_pause

NOW = 1_000_000.0
OURS = ("node-1", "m1")


def assign(number: int, *, affinity: tuple[str, str] = OURS, opens_at: str = "") -> Assign:
    return Assign(Owner(f"h{number}", "node-1"), f"{number:016x}", NOW, 30.0, affinity, opens_at)


class Steered:
    """A writer of one ready block whose every store call the test answers."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.gate = Gate()
        self.calls: list[str] = []

    async def start(self, network: str = "10.0.0.0/30") -> "Steered":
        made = new_block(ip_network(network), "p", *OURS, NOW).made_ready()
        stored = Block.read(await self.inner.create(made.record))
        self.writer = BlockWriter(GatedStore(self.inner, self.gate), stored, no_pause)
        return self

    def submit(self, change: Change) -> "asyncio.Task[Block | None]":
        return asyncio.ensure_future(self.writer.submit(change))

    async def answer(self, *fates: Fate) -> None:
        for fate in fates:
            await until(lambda: bool(self.gate.waiting))
            pending = self.gate.waiting.pop(0)
            self.calls.append(pending.name)
            pending.fate.set_result(fate)
        await asyncio.sleep(0)

    async def stored(self) -> Block:
        return Block.read(await self.inner.get(IPBlock, "10-0-0-0-30"))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def test_what_comes_while_a_write_flies_goes_into_one_next_write() -> None:
    steered = await Steered().start()
    tasks = [steered.submit(assign(1))]
    await until(lambda: bool(steered.gate.waiting))
    tasks += [steered.submit(assign(2)), steered.submit(assign(3))]
    await steered.answer(Fate.OK, Fate.OK)
    await asyncio.gather(*tasks)
    assert steered.calls == ["update", "update"]


async def test_one_that_cannot_apply_does_not_fail_the_others() -> None:
    steered = await Steered().start()
    tasks = [steered.submit(assign(number)) for number in range(5)]
    await steered.answer(Fate.OK)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Block] * 4 + [BlockFull]


async def test_a_refused_write_leaves_the_mirror_as_it_was() -> None:
    steered = await Steered().start()
    before = steered.writer.block
    task = steered.submit(assign(1))
    await steered.answer(Fate.REFUSED)
    with pytest.raises(Unavailable):
        await task
    assert steered.writer.block == before
    second = steered.submit(assign(2))
    await steered.answer(Fate.OK)
    await second
    assert (await steered.stored()).of_handle("h1") == ()


async def test_a_lost_answer_of_a_write_that_was_applied_is_found_by_its_id() -> None:
    steered = await Steered().start()
    task = steered.submit(assign(1))
    await steered.answer(Fate.ANSWER_LOST, Fate.OK)
    assert (block := await task) is not None
    assert len(block.of_handle("h1")) == 1
    assert steered.calls == ["update", "get"]


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.LATE])
async def test_a_write_that_may_still_land_is_settled_by_winning_another_at_its_revision(fate: Fate) -> None:
    steered = await Steered().start()
    task = steered.submit(assign(1))
    await steered.answer(fate, Fate.OK, Fate.OK)
    await task
    assert steered.calls == ["update", "get", "update"]
    for late in steered.gate.late:
        with pytest.raises(Exception, match="moved on"):
            await late()
    assert len((await steered.stored()).of_handle("h1")) == 1


async def test_a_write_that_lands_between_is_recognised() -> None:
    steered = await Steered().start()
    task = steered.submit(assign(1))
    await steered.answer(Fate.LATE, Fate.OK)
    await steered.gate.late.pop()()
    await steered.answer(Fate.OK, Fate.OK)
    await task
    assert steered.calls == ["update", "get", "update", "get"]
    assert len((await steered.stored()).of_handle("h1")) == 1


async def test_while_a_write_may_still_land_nobody_is_told_that_nothing_was_written() -> None:
    steered = await Steered().start()
    task = steered.submit(assign(1))
    await steered.answer(Fate.LATE, Fate.OK, Fate.REFUSED, Fate.OK, Fate.OK)
    await task
    assert steered.calls == ["update", "get", "update", "get", "update"]


async def test_reads_are_repeated_until_a_lost_write_can_be_judged_and_then_given_up() -> None:
    steered = await Steered().start()
    task = steered.submit(assign(1))
    await steered.answer(Fate.LOST, *[Fate.REFUSED] * 12)
    with pytest.raises(NotSettled, match="10-0-0-0-30"):
        await task


async def test_after_a_conflict_an_assign_is_sent_back_and_a_release_tries_again() -> None:
    steered = await Steered().start()
    first = steered.submit(assign(1))
    await steered.answer(Fate.OK)
    held = (await first).of_id(f"{1:016x}")  # type: ignore[union-attr]
    assert held is not None
    behind = await steered.stored()
    await steered.inner.update(behind.assign(Owner("other", "node-2"), f"{9:016x}", NOW, 30.0)[0].record)
    both = [steered.submit(Release(held, NOW)), steered.submit(assign(2))]
    await steered.answer(Fate.OK, Fate.OK, Fate.OK)
    released, moved = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(released, Block)
    assert isinstance(moved, Moved)
    stored = await steered.stored()
    assert (len(stored.of_handle("h1")), len(stored.of_handle("other"))) == (0, 1)


async def test_a_block_that_is_gone_sends_assigns_back_and_has_nothing_to_release() -> None:
    steered = await Steered().start()
    first = steered.submit(assign(1))
    await steered.answer(Fate.OK)
    held = (await first).of_id(f"{1:016x}")  # type: ignore[union-attr]
    assert held is not None
    await steered.inner.delete((await steered.stored()).record)
    both = [steered.submit(Release(held, NOW)), steered.submit(assign(2))]
    await steered.answer(Fate.OK, Fate.OK)
    assert [type(one) for one in await asyncio.gather(*both, return_exceptions=True)] == [type(None), Moved]


async def test_an_owner_whose_names_are_none_is_refused_alone() -> None:
    steered = await Steered().start()
    bad = Assign(Owner("h9", "node-1", "no pod's name"), f"{9:016x}", NOW, 30.0, OURS)
    tasks = [steered.submit(assign(1)), steered.submit(bad), steered.submit(assign(2))]
    await steered.answer(Fate.OK)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in outcomes] == [Block, Invalid, Block]
    assert steered.calls == ["update"]


async def test_cancelling_a_caller_does_not_cancel_its_write() -> None:
    steered = await Steered().start()
    task = steered.submit(assign(1))
    await until(lambda: bool(steered.gate.waiting))
    task.cancel()
    await steered.answer(Fate.OK)
    await until(lambda: not steered.writer.busy)
    assert len((await steered.stored()).of_handle("h1")) == 1


def ready(node: str = "node-1") -> Block:
    return new_block(ip_network("10.0.0.0/30"), "p", node, "m1", NOW).made_ready()


def unready() -> Block:
    return new_block(ip_network("10.0.0.0/30"), "p", *OURS, NOW)


@pytest.mark.parametrize(
    ("change", "block"),
    [
        pytest.param(assign(1), ready("node-2"), id="an assign, of a block that is another's now"),
        pytest.param(assign(1, affinity=("node-1", "m2")), ready(), id="an assign, of a block of another machine"),
        pytest.param(assign(1), unready(), id="an assign, of a block nobody found free of overlap"),
        pytest.param(assign(1, opens_at="7"), unready(), id="an assign, of a block found so at another revision"),
        pytest.param(
            Adopt(ready().assign(Owner("h1", "n"), f"{1:016x}", NOW, 0)[1], Owner("h1", "n"), f"{2:016x}", NOW),
            ready().assign(Owner("h2", "n"), f"{3:016x}", NOW, 0)[0],
            id="an adoption, of an address that is another handle's",
        ),
    ],
)
def test_a_change_is_sent_back_from_a_block_that_is_not_as_it_was(change: Change, block: Block) -> None:
    with pytest.raises(IpamError):
        change.apply(block)


async def test_a_listing_older_than_the_mirror_does_not_set_it_back() -> None:
    inner, gate = MemoryStore(), Gate()
    await inner.create(new_block(ip_network("10.0.0.0/30"), "p", *OURS, NOW).made_ready().record)
    mirror = Mirror(GatedStore(inner, gate), *OURS, no_pause)
    gate.open = True
    await mirror.list_mine()
    writer = await mirror.writer_of("10-0-0-0-30")
    assert writer is not None
    old = await inner.list(IPBlock)
    gate.open = False
    listing = asyncio.ensure_future(mirror.list_mine())
    await until(lambda: bool(gate.waiting))
    pending = gate.waiting.pop()
    assigning = asyncio.ensure_future(writer.submit(assign(1)))
    await until(lambda: bool(gate.waiting))
    gate.waiting.pop().fate.set_result(Fate.OK)
    await assigning
    inner.list = lambda *_: answered(old)  # type: ignore[assignment,method-assign]  # the answer was long on its way
    pending.fate.set_result(Fate.OK)
    await listing
    assert len(mirror.of_handle("h1")) == 1


async def answered(value: object) -> object:
    return value
