"""Rules broken one at a time: the proof that the simulation can fail.

Each is a rule of `ipam/DESIGN.md`, `cni/DESIGN.md` or design.md section 5 without which an address doubles, leaks or is
taken from a pod that lives, put out of force by replacing a function or two. Seeds that are run with one must find it.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

from agent import reclaim as agent_reclaim
from agent import upkeep
from cni import attach
from datastore.errors import Conflict, Unknown
from ipam import allocator, changes, claim, placing, takeover
from ipam.allocator import Allocator
from ipam.block import Address, Block, Held, Owner
from ipam.group_commit import BlockWriter
from ipam.handles import Handles, Hold
from ipam.mirror import Mirror
from ipam.reclaim import Grace
from ipam.reclaim_departed import DepartedReclaim
from ipam.reclaim_own import OwnReclaim
from tests.simulation import agents
from tests.simulation.disk import MortalHandles, MortalHold

Mutant = Callable[[], AbstractContextManager[object]]


def _replaced(owner: object, name: str, other: object) -> Mutant:
    return lambda: mock.patch.object(owner, name, other)


def _all(*mutants: Mutant) -> Mutant:
    @contextlib.contextmanager
    def together() -> Iterator[None]:
        with ExitStack() as stack:
            for mutant in mutants:
                stack.enter_context(mutant())
            yield

    return together


# Blocks


def _anybody_opens(self: changes.Assign, block: Block) -> Block:
    if not block.record.spec.ready:
        block = block.made_ready()
    changed, self.held = block.assign(self.owner, self.id, self.now, self.cooldown_s, self.among)
    return changed


async def _given_back_before_it_is_withdrawn(self: Allocator, withdraw: Callable[[], Awaitable[None]]) -> int:
    idle = [block for block in self._mirror.blocks() if self._is_idle(block)]
    given = [await self._claimer.delete(block) for block in idle]
    if idle:
        await withdraw()
    return sum(given)


# Group commit


class _Careless:
    """A store for which a lost answer is a conflict."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self._inner = inner
        self.get = inner.get

    async def update(self, record: Any) -> Any:  # noqa: ANN401
        try:
            return await self._inner.update(record)
        except Unknown:
            raise Conflict(record.key, record.revision) from None


_MADE = BlockWriter.__init__


def _made_careless(self: BlockWriter, store: Any, *rest: Any) -> None:  # noqa: ANN401
    _MADE(self, _Careless(store), *rest)  # type: ignore[arg-type]


_GET, _READ_AGAIN = BlockWriter._get, BlockWriter._read_again
_rereading: set[BlockWriter] = set()


async def _read_again_noted(self: BlockWriter, batch: Any, lost_at: str) -> Any:  # noqa: ANN401
    _rereading.add(self)
    try:
        return await _READ_AGAIN(self, batch, lost_at)
    finally:
        _rereading.discard(self)


async def _get_the_mirror(self: BlockWriter, lost: bool) -> Block | None:
    """What is read to confirm that there is nothing to write is the mirror."""
    if self in _rereading or self.block is None or self.block.record.spec.frozen:
        return await _GET(self, lost)
    return self.block


# Ids


def _release_whoever(self: changes.Release, block: Block) -> Block:
    found = block.record.spec.allocations.get(str(self.held.ordinal))
    return block if found is None else block.release(self.held.ordinal, found.id, self.now)


async def _adopt_from_the_mirror(self: Allocator, owner: Owner, held: Held) -> Held:
    return held


def _of_the_handle(owner: Owner) -> str:
    return hashlib.sha256(owner.handle.encode()).hexdigest()[:16]


def _assign_with_one_id(owner: Owner, _id: str, *rest: Any) -> changes.Assign:  # noqa: ANN401
    return changes.Assign(owner, _of_the_handle(owner), *rest)


def _adopt_with_one_id(held: Held, owner: Owner, _id: str, now: float) -> changes.Adopt:
    return changes.Adopt(held, owner, _of_the_handle(owner), now)


# Handles


@contextlib.asynccontextmanager
async def _hold_beside_others(self: Handles, handle: str, wait_s: float | None = None) -> AsyncIterator[Hold]:
    yield _NoLock(handle, self.is_uncertain(handle))


class _NoLock(Hold):
    def __init__(self, handle: str, uncertain: bool) -> None:
        self.handle = handle
        self.uncertain = uncertain
        self._intent = uncertain

    def intend(self) -> None:
        pass

    def settle(self) -> None:
        pass


def _not_noted(*_: object) -> None:
    pass


async def _nothing(*_: object, **__: object) -> None:
    pass


async def _none(*_: object, **__: object) -> int:
    return 0


# Reclaim


def _at_once(self: Grace[Any], suspects: Iterable[Any], longest_gap_s: float) -> Mapping[Any, float]:
    return dict.fromkeys(suspects, longest_gap_s)


async def _no_routes(*_: object) -> frozenset[Address]:
    return frozenset()


async def _all_gone(self: DepartedReclaim, nodes: Iterable[str]) -> set[str]:
    return set(nodes)


async def _ours_anyway(*_: object) -> bool:
    return True


async def _hold_nothing(*_: object) -> bool:
    return True


MUTANTS: Mapping[str, Mutant] = {
    "the cell isn't listed after a block is created": _replaced(claim, "_alone", lambda *_: True),
    "anybody assigns in a block that isn't ready": _all(
        _replaced(changes.Assign, "apply", _anybody_opens), _replaced(Mirror, "is_usable", lambda *_: True)
    ),
    "a block is given back before it is out of the Node": _replaced(
        Allocator, "give_back", _given_back_before_it_is_withdrawn
    ),
    "a lost answer is a conflict": _replaced(BlockWriter, "__init__", _made_careless),
    "the mirror says that there is nothing to write": _all(
        _replaced(BlockWriter, "_read_again", _read_again_noted), _replaced(BlockWriter, "_get", _get_the_mirror)
    ),
    "an address is released whoever has it by now": _replaced(changes.Release, "apply", _release_whoever),
    "an address is adopted without a write": _replaced(Allocator, "_adopt", _adopt_from_the_mirror),
    "a handle has the same allocation id each time": _all(
        _replaced(placing, "Assign", _assign_with_one_id), _replaced(allocator, "Adopt", _adopt_with_one_id)
    ),
    "no intent is written": _all(
        _replaced(MortalHold, "intend", _not_noted), _replaced(MortalHold, "sending", _not_noted)
    ),
    "two may hold a handle": _replaced(MortalHandles, "hold", _hold_beside_others),
    "an ADD doesn't finish the removal that is owed": _replaced(attach, "settle", _nothing),
    "an ADD that died is left as it is": _replaced(upkeep, "undo_incomplete", _none),
    "nothing is regained": _all(_replaced(agents, "regain_all", _none), _replaced(agents, "keep_regaining", _nothing)),
    "reclaim gives no grace": _replaced(Grace, "look", _at_once),
    "reclaim doesn't ask the records": _replaced(agent_reclaim.NodeWitness, "recorded", lambda *_: False),
    "reclaim doesn't ask the kernel": _replaced(agent_reclaim.NodeWitness, "routed", _no_routes),
    "reclaim holds no handle": _replaced(OwnReclaim, "_hold", _hold_nothing),
    "reclaim doesn't ask again whether a Node is gone": _replaced(DepartedReclaim, "_still_gone", _all_gone),
    "blocks are taken over whoever has the name": _replaced(takeover, "_is_ours", _ours_anyway),
}
