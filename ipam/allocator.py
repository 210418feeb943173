"""Giving, adopting and taking back addresses for one node.

    assign   1. what the handle has already is adopted: a CAS that writes a new id, so every older id is void
             2. otherwise a place is found (`ipam.placing`): own block, new block, borrowed
    release  by (block, ordinal, id), or everything of a handle, looked up by a fresh list

Every choice that was made on a stale mirror loses its compare-and-swap and is made again. What the mirror is never used
for is to say that a handle has nothing: a handle whose last holder left an intent is looked up afresh.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from datastore.resources.ipblock import Allocation, block_cidr
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.store import Store
from ipam.block import Address, Among, Block, Held, Network, Owner
from ipam.changes import Adopt, Release
from ipam.claim import Claimer
from ipam.errors import NoPool, NotSettled, OutsidePools
from ipam.group_commit import Moved, Pause
from ipam.handles import Hold
from ipam.mirror import Mirror
from ipam.placing import Placer, Request
from ipam.pools import WORKLOAD, Asker, Catalogue, Pool
from ipam.reserved import NOTHING, Reserved
from ipam.settings import Settings as Settings
from ipam.tally import ADOPTED, BORROWED, OWN, Tally

T = TypeVar("T")
IDLE_S = 300.0
"""How long a block must have been empty before it is given back."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The families asked for, each with the pools it may come from (names or CIDRs; none: those that select it)."""

    families: tuple[int, ...]
    pools: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    among: Mapping[int, Among] = field(default_factory=dict)
    """By family, where not any address of those pools will do."""
    use: str = WORKLOAD
    """What pools must be allowed for."""
    namespace_labels: Mapping[str, str] | None = field(default_factory=dict)
    """Of the pod's namespace, for pools that select namespaces; None: any of them will do."""


def draw_id() -> str:
    """A new allocation id: 64 random bits as 16 hex digits."""
    return secrets.token_hex(8)


class Allocator:
    """The addresses of one node; `load` it first."""

    def __init__(
        self,
        store: Store,
        node: str,
        machine: str,
        *,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], str] = draw_id,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when `networks`, `borrowed` or `on_links` have changed."""
        self.node_labels: Mapping[str, str] = {}
        """For pools that select nodes."""
        self.tally = Tally()
        self._store = store
        self._clock = clock
        self._draw = draw
        self._mirror = Mirror(store, node, machine, pause, clock)
        self._claimer = Claimer(store, self._mirror, clock, pause)
        self._placer = Placer(self._mirror, self._claimer, clock, draw, pause)
        self._catalogue: Catalogue | None = None
        self._told: tuple[int, frozenset[str]] = (0, frozenset())
        """What was so when `on_change` was called last."""
        self._placer.set_rules(Settings(), NOTHING)

    async def load(self) -> None:
        """Read this node's blocks, and those it borrows from.

        Raises:
            StoreError: the store can't be read.
        """
        await self._mirror.list_mine()
        self._tell()

    @property
    def settings(self) -> Settings:
        """What the administrators say of address management."""
        return self._placer.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        if settings != self._placer.settings:
            self._placer.set_rules(settings, self._placer.reserved)

    def set_reservations(self, reservations: Iterable[IPReservation]) -> None:
        """The addresses that nobody is given unless he asks for them, as a watch last saw them."""
        reserved = Reserved.of(reservations)
        if reserved != self._placer.reserved:
            self._placer.set_rules(self._placer.settings, reserved)

    def set_pools(self, pools: Iterable[IPPool]) -> None:
        """The pools as a watch last saw them; without any, and where they don't suffice, the store is asked."""
        listed = tuple(pools)
        if self._catalogue is None or listed != self._catalogue.resources:
            self._catalogue = Catalogue(listed)

    @property
    def unused_pools(self) -> Mapping[str, str]:
        """Pools that aren't used although they are enabled, with the reason: they overlap another, or are wrong."""
        return self._catalogue.unused if self._catalogue is not None else {}

    def tunnelled(self, family: int) -> tuple[str, ...]:
        """The pools in which this node needs the end of a tunnel, as a watch last saw them."""
        return self._catalogue.tunnelled(family, self.node_labels) if self._catalogue is not None else ()

    def networks(self) -> frozenset[Network]:
        """The blocks that are to be routed to this node."""
        return self._mirror.networks() - {block_cidr(name) for name in self._placer.closing}

    def on_links(self) -> frozenset[Network]:
        """Those of this node's blocks that have an address on another plugin's link: its route leads there."""
        return self._mirror.on_links()

    def borrowed(self) -> frozenset[Address]:
        """This node's addresses in other nodes' blocks."""
        return self._mirror.borrowed()

    def allocations(self) -> list[tuple[Held, Allocation]]:
        """Everything that the mirror says this node has, in its own blocks and in others'."""
        return [
            (block.held(int(ordinal)), allocation)
            for block in self._mirror.blocks()
            for ordinal, allocation in block.record.spec.allocations.items()
            if allocation.node == self._mirror.node
        ]

    async def assign(self, owner: Owner, wanted: Wanted, hold: Hold, *, again: bool = False) -> tuple[Held, ...]:
        """One address of each family wanted, persisted; all of them or none.

        What the handle had before stays its own, adopted, also when another family fails: `hold` stays uncertain then,
        as it does whenever an outcome isn't known, and the next look-up of the handle is a fresh one. With `again` this
        one is fresh, too: the handle may have what another process gave it.

        Raises:
            NoPool, NoAddress, OutsidePools, AddressTaken: and nothing new was assigned.
            Frozen, Migrating: the datastore is being left for another; nothing new was assigned.
            NotSettled: perhaps assigned.
            StoreError: the store can't be used.
        """
        known = await self.find(owner.handle) if hold.uncertain or again else self._mirror.of_handle(owner.handle)
        await self._void(hold, known)
        had: dict[int, Held] = {}
        for one in known:
            if again or _suits(one, wanted):
                had.setdefault(one.address.version, one)
        with self.tally.refusals():
            pools = await self._eligible(wanted, [family for family in wanted.families if family not in had])
        if known:
            hold.intend()  # to write for it where nothing is sent that says so itself
            await self.release(one for one in known if one.address.version not in had)
        tries = [
            self._assign_family(Request(owner, one, pools.get(one, ()), wanted.among.get(one), hold), wanted, had)
            for one in wanted.families
        ]
        outcomes = await _outcomes(tries)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        given = tuple(outcome for outcome in outcomes if isinstance(outcome, Held))
        self._tell()
        if not failures:
            return given
        kept = {one.address for one in had.values()}
        await self.release(one for one in given if one.address not in kept)
        if not had and not any(isinstance(failure, NotSettled) for failure in failures):
            hold.settle()
        with self.tally.refusals():
            raise failures[0]

    async def adopt(self, owner: Owner, held: Held) -> Held | None:
        """Give `owner` a new id for an address that its handle has, whatever pod and node stand there; None: it hasn't.

        Raises:
            StoreError, NotSettled: the store can't be used; perhaps it was done.
        """
        try:
            return await self._adopt(owner, held)
        except Moved:
            return None
        finally:
            self._tell()

    async def release(self, held: Iterable[Held], *, certain: bool = True) -> None:
        """Free allocations by id; what has gone already, or belongs to another by now, is left alone.

        With `certain` false the write that made them was lost and may still land: a write on the block is won, so
        that it can't any more.

        Raises:
            Frozen: the datastore is being left for another; try again later.
            StoreError, NotSettled: the store can't be used; try again later.
        """
        frees = [self._release_one(one, certain) for one in held]
        if not frees:
            return
        outcomes = await _outcomes(frees)
        self._tell()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def serves(self, held: Held, wanted: Wanted) -> bool:
        """Whether an address lies in a pool from which it could be given now to who wants this.

        Raises:
            StoreError: the pools can't be read.
        """
        family = held.address.version
        try:
            pools = (await self._eligible(wanted, (family,)))[family]
        except (NoPool, OutsidePools):
            return False
        return any(held.address in pool.network for pool in pools)

    async def release_handle(self, handle: str, hold: Hold | None = None) -> tuple[Held, ...]:
        """Free whatever a handle has, as a fresh list shows it; gives what was freed.

        With its `hold`, what an earlier holder has sent, and nobody has seen land, can't land any more, either.

        Raises:
            Frozen: the datastore is being left for another; try again later.
            StoreError, NotSettled: the store can't be used; try again later.
        """
        found = await self.find(handle)
        await self.release(found)
        if hold is not None:
            await self._void(hold, found)
        return found

    async def find(self, handle: str) -> tuple[Held, ...]:
        """What a handle has, by a fresh list.

        Raises:
            StoreError: the store can't be read.
        """
        return tuple(held for block in await self._mirror.list_mine() for held in block.of_handle(handle))

    async def handles(self) -> frozenset[str]:
        """Every handle that has an address by way of this node, by a fresh list.

        Raises:
            StoreError: the store can't be read.
        """
        return frozenset(
            found.handle
            for block in await self._mirror.list_mine()
            for found in block.record.spec.allocations.values()
            if found.node == self._mirror.node
        )

    async def check_room(self, wanted: Wanted) -> None:
        """Return if each family wanted could be given an address now. The store is asked only where this node is full.

        Raises:
            NoPool, OutsidePools, NoAddress, Migrating: it couldn't.
            StoreError: the store can't be read.
        """
        pools = await self._eligible(wanted, wanted.families)
        for family in wanted.families:
            await self._placer.check_room(Request(_NOBODY, family, pools[family], wanted.among.get(family)))

    async def give_back(self, withdraw: Callable[[], Awaitable[None]]) -> int:
        """Give back blocks that have long been empty; `withdraw` takes them out of the Node first. Gives how many.

        Blocks that a dead claim left unready go, too: nobody may want to take one up, its pool being disabled by now.

        A block of which it isn't known whether it is gone isn't used, nor told to the Node, until a later look knows:
        the delete that was lost may land when another node has made the block its own.

        Raises:
            StoreError: the store can't be used; blocks that were not deleted are used again.
        """
        unsettled: set[str] = set()
        idle = [block for block in self._mirror.blocks() if self._is_idle(block)]
        self._placer.closing = frozenset(block.name for block in idle)
        try:
            if idle:
                self._tell()  # so that a block which is kept after all is told again
                await withdraw()
            return sum([await self._is_deleted(block, unsettled) for block in idle])
        finally:
            self._placer.closing = frozenset(unsettled)
            self._tell()

    async def _is_deleted(self, block: Block, unsettled: set[str]) -> bool:
        try:
            return await self._claimer.delete(block)
        except NotSettled:
            unsettled.add(block.name)
            return False

    def _tell(self) -> None:
        now = self._mirror.version, self._placer.closing
        if now != self._told:
            self._told = now
            self.on_change()

    async def _eligible(self, wanted: Wanted, families: Sequence[int]) -> dict[int, tuple[Pool, ...]]:
        if not families:
            return {}
        asker = Asker(wanted.use, self.node_labels, wanted.namespace_labels)
        if self._catalogue is not None:
            with contextlib.suppress(NoPool, OutsidePools):
                return _eligible(self._catalogue, wanted, families, asker)
        return _eligible(Catalogue((await self._store.list(IPPool)).items), wanted, families, asker)

    async def _assign_family(self, request: Request, wanted: Wanted, had: Mapping[int, Held]) -> Held:
        family = request.family
        if family in had:
            with contextlib.suppress(Moved):
                adopted = await self._adopt(request.owner, had[family])
                self.tally.given[family, ADOPTED] += 1
                return adopted
            request = replace(request, pools=(await self._eligible(wanted, (family,)))[family])
        placed = await self._placer.place(request)
        self.tally.given[family, BORROWED if self._mirror.lends(placed.block) else OWN] += 1
        return placed

    async def _void(self, hold: Hold, known: Sequence[Held]) -> None:
        """See to it that no write that was sent for a handle, and isn't known to have landed, lands from now on.

        Its sender has died, or gave up asking; while it is under way, a look at the block says nothing of it.
        """
        there = {one.id for one in known}
        lost = [
            Held(block, 0, text, block_cidr(block).network_address) for block, text in hold.sent() if text not in there
        ]
        await self.release(lost, certain=False)

    async def _adopt(self, owner: Owner, held: Held) -> Held:
        writer = await self._mirror.writer_of(held.block)
        if writer is None:
            raise Moved(held.block)
        change = Adopt(held, owner, self._draw(), self._clock())
        return _found(change.id, await writer.submit(change))

    async def _release_one(self, held: Held, certain: bool) -> None:
        writer = await self._mirror.writer_of(held.block)
        if writer is not None:
            await writer.submit(Release(held, self._clock(), must_write=not certain))
            self.tally.freed[held.address.version] += certain

    def _is_idle(self, block: Block) -> bool:
        """Ready or not: a claim that died leaves a block that nobody else may use."""
        if not (self._mirror.is_mine(block) and block.empty) or block.record.spec.frozen:
            return False
        return block.idle_since() + IDLE_S <= self._clock()


_NOBODY = Owner("", "")
"""For questions that give nothing."""


def _suits(held: Held, wanted: Wanted) -> bool:
    """Whether what a handle has is what it wants: what a dead call left may be another address."""
    among = wanted.among.get(held.address.version)
    return among is None or among.has(held.address)


def _eligible(
    catalogue: Catalogue, wanted: Wanted, families: Sequence[int], asker: Asker
) -> dict[int, tuple[Pool, ...]]:
    found = {}
    for family in families:
        among = wanted.among.get(family)
        pools = catalogue.eligible(family, wanted.pools.get(family, ()), among, asker)
        found[family] = tuple(pool for pool in pools if among is None or among.meets(pool.network))
        if not found[family]:
            raise OutsidePools(str(among))
    return found


async def _outcomes(tries: Sequence[Coroutine[object, object, T]]) -> Sequence[T | BaseException]:
    """What all of them end with; a lone one, as most are, without a task of its own."""
    if len(tries) != 1:
        return await asyncio.gather(*tries, return_exceptions=True)
    try:
        return [await tries[0]]
    except Exception as error:  # told to the caller, as gather tells it
        return [error]


def _found(allocation_id: str, block: Block | None) -> Held:
    held = block.of_id(allocation_id) if block is not None else None
    if held is None:
        raise Moved(block.name if block is not None else "that was chosen")
    return held
