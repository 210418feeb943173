"""A block's algebra: assign, adopt, release; each gives a new block and never touches the store.

    ordinal   0 1 2 3 4 5 6 ... size-1
              a a r a r | never used        a: allocated, r: released and waiting, oldest first
                        fresh

Addresses that were never used go first, then the one that was released longest ago, once it has cooled: a reused
address may still be in somebody's conntrack or cache. All addresses of a block are ordinary: pods are /32 hosts, so no
network or broadcast address is set aside; who needs that (a bridge's subnet) names ranges.

What is reserved is passed over, and given only to who asks for exactly that address. Ordinals that were passed over
become released ones, long cool: they are given when the reservation is gone, or to who may have them.

Every change of a frozen block is refused (`Frozen`): a migration is copying it to another datastore.

What is released goes into the block's history, in the same write: who had an address, and when, costs nothing more.

After pycalico's AllocationBlock, whose ideas these are (one key, one CAS, ordinals, a FIFO of free ones).
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain, islice
from operator import itemgetter

import msgspec

from datastore.resources.ipblock import (
    HISTORY,
    Allocation,
    IPBlock,
    IPBlockSpec,
    Past,
    block_cidr,
    block_name,
    cell_of,
)
from datastore.resources.value import Metadata
from ipam.errors import BlockFull, Frozen

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
NO_ORDINALS: Set[int] = frozenset()
_released_at = itemgetter(1)
_Released = tuple[tuple[int, float], ...]
_NEVER = 0.0
"""The release time of addresses that were passed over: by any cooldown they are free."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who asks for an address."""

    handle: str
    node: str
    pod: str = ""
    namespace: str = ""
    uid: str = ""
    on_link: bool = False
    """Another plugin has the address on a link of its own (`tortie-ipam` below a bridge): no /32 route is made."""


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses from which one may be given: `first` to `last` of a network, but `avoid` (its gateway, above all)."""

    network: Network
    first: Address
    last: Address
    avoid: frozenset[Address] = frozenset()

    def has(self, address: Address) -> bool:
        """Whether an address may be given."""
        if address.version != self.network.version or address in self.avoid:
            return False
        return int(self.first) <= int(address) <= int(self.last)

    def ordinals(self, network: Network) -> range:
        """The places in a network between the first and the last; none where they lie outside."""
        if not self.meets(network):
            return range(0)
        start = int(network.network_address)
        return range(max(int(self.first) - start, 0), min(int(self.last) - start, network.num_addresses - 1) + 1)

    def meets(self, network: Network) -> bool:
        """Whether a network holds some of these addresses."""
        if network.version != self.network.version:
            return False
        return int(network[0]) <= int(self.last) and int(self.first) <= int(network[-1])


@dataclass(frozen=True, slots=True)
class Among:
    """What limits the choice of an address: some ranges, or one single address."""

    ranges: tuple[Range, ...]

    @classmethod
    def only(cls, address: Address) -> "Among":
        """Just this one."""
        network = IPv4Network(address) if address.version == 4 else IPv6Network(address)
        return cls((Range(network, address, address),))

    @property
    def single(self) -> bool:
        """Whether only one address will do."""
        return len(self.ranges) == 1 and self.ranges[0].first == self.ranges[0].last

    def __str__(self) -> str:
        return ", ".join(str(one.first) if self.single else str(one.network) for one in self.ranges)

    def has(self, address: Address) -> bool:
        """Whether an address may be given."""
        return any(one.has(address) for one in self.ranges)

    def meets(self, network: Network) -> bool:
        """Whether a network holds some that may be given."""
        return any(one.meets(network) for one in self.ranges)


@dataclass(frozen=True, slots=True)
class Held:
    """One allocation, named so that nobody else's can be meant: a later owner of the address has another id."""

    block: str
    ordinal: int
    id: str
    address: Address
    fresh: bool = field(default=False, compare=False)
    """Just assigned, and never anybody else's: no flow of an earlier owner can be left."""

    def is_in(self, block: "Block") -> bool:
        """Whether a block has this very allocation."""
        there = block.record.spec.allocations.get(str(self.ordinal))
        return there is not None and there.id == self.id and block.name == self.block


@dataclass(frozen=True, slots=True)
class Block:
    """An IPBlock with what can be done to it; made by `Block.read`. Times are Unix seconds."""

    record: IPBlock
    network: Network
    """The CIDR, which the name says too; here because parsing it at each step costs more than all the rest."""

    @classmethod
    def read(cls, record: IPBlock) -> "Block":
        """The block that an object of the store is."""
        return cls(record, block_cidr(record.name))

    @property
    def name(self) -> str:
        """The object's name."""
        return self.record.name

    @property
    def empty(self) -> bool:
        """Whether nobody owns an address of it."""
        return not self.record.spec.allocations

    def address_of(self, ordinal: int) -> Address:
        """The address at an ordinal."""
        start = int(self.network.network_address) + ordinal
        return IPv4Address(start) if self.network.version == 4 else IPv6Address(start)

    def has_room(
        self,
        now: float,
        cooldown_s: float,
        after: int = 0,
        among: Among | None = None,
        reserved: Set[int] = NO_ORDINALS,
    ) -> bool:
        """Whether an address could be given at `now`, and that after so many others."""
        spec = self.record.spec
        if among is not None:
            return sum(1 for _ in self._open_to(among, now, cooldown_s, reserved)) > after
        fresh = self.network.num_addresses - spec.fresh
        if reserved:
            fresh -= sum(1 for ordinal in reserved if ordinal >= spec.fresh)
        wanted = after + 1 - fresh
        if wanted <= 0:
            return True
        if wanted > len(spec.released):
            return False
        cool = (1 for ordinal, at in spec.released if at + cooldown_s <= now and ordinal not in reserved)
        return sum(islice(cool, wanted)) == wanted

    def cools_at(self, cooldown_s: float, reserved: Set[int] = NO_ORDINALS) -> float | None:
        """When the first of the released ones has cooled; None where there is none."""
        released = (at for ordinal, at in self.record.spec.released if ordinal not in reserved)
        first = min(released, default=None)
        return None if first is None else first + cooldown_s

    def assign(
        self,
        owner: Owner,
        allocation_id: str,
        now: float,
        cooldown_s: float,
        among: Among | None = None,
        reserved: Set[int] = NO_ORDINALS,
    ) -> tuple["Block", Held]:
        """Give `owner` an address under an id that the caller has just drawn; none of `reserved` unless it is the one.

        Raises:
            BlockFull: there is none to give at `now`.
            Invalid: the owner's names are none.
            Frozen: a migration holds the block.
        """
        self.check_thawed()
        spec = self.record.spec
        released, fresh = spec.released, spec.fresh
        if among is not None:
            ordinal = next(self._open_to(among, now, cooldown_s, reserved), None)
        else:
            ordinal = self._next(now, cooldown_s, reserved)
        if ordinal is None:
            raise BlockFull(self.network)
        if ordinal < fresh:
            place = next(place for place, one in enumerate(released) if one[0] == ordinal)
            released = released[:place] + released[place + 1 :]
        else:
            released = (*((one, _NEVER) for one in range(fresh, ordinal)), *released)
            fresh = ordinal + 1
        allocations = {**spec.allocations, str(ordinal): _allocation(owner, allocation_id, now)}
        changed = self._with(allocations=allocations, released=self._times_of(owner.node, released, now), fresh=fresh)
        return changed, Held(self.name, ordinal, allocation_id, self.address_of(ordinal), fresh > spec.fresh)

    def _next(self, now: float, cooldown_s: float, reserved: Set[int]) -> int | None:
        """The ordinal whose turn it is, of those that anybody may be given."""
        for ordinal in range(self.record.spec.fresh, self.network.num_addresses):
            if ordinal not in reserved:
                return ordinal
        for ordinal, at in self.record.spec.released:
            if at + cooldown_s <= now and ordinal not in reserved:
                return ordinal
        return None

    def _open_to(self, among: Among, now: float, cooldown_s: float, reserved: Set[int]) -> Iterator[int]:
        """The ordinals that may be given to who wants one of `among`, in the order of giving.

        An address asked for by itself needn't have cooled, for who moves a fixed address on wants it at once; and it
        may be a reserved one, for that is what reserving keeps it for.
        """
        spec = self.record.spec
        if among.single:
            (only,) = among.ranges
            return (ordinal for ordinal in only.ordinals(self.network) if str(ordinal) not in spec.allocations)
        free = chain(
            range(spec.fresh, self.network.num_addresses),
            (ordinal for ordinal, at in spec.released if _cool(at, now, cooldown_s)),
        )
        allowed = (ordinal for ordinal in free if ordinal not in reserved)
        return (ordinal for ordinal in allowed if among.has(self.address_of(ordinal)))

    def adopt(self, ordinal: int, owner: Owner, allocation_id: str, now: float) -> tuple["Block", Held]:
        """Give `owner`, who has the address already, a new id for it: every older id of it is void from then on.

        It is his since he was first given it: an adoption is no new owner.

        Raises:
            Invalid: the owner's names are none.
            Frozen: a migration holds the block.
        """
        self.check_thawed()
        before = self.record.spec.allocations[str(ordinal)]
        allocation = _allocation(owner, allocation_id, min(before.since, now))
        changed = self._with(allocations={**self.record.spec.allocations, str(ordinal): allocation})
        return changed, changed.held(ordinal)

    def release(self, ordinal: int, allocation_id: str, now: float) -> "Block":
        """Free an ordinal if it still has this id; otherwise the block as it is, for the address is another's now.

        Raises:
            Frozen: it has, and a migration holds the block.
        """
        spec = self.record.spec
        found = spec.allocations.get(str(ordinal))
        if found is None or found.id != allocation_id:
            return self
        self.check_thawed()
        left = {key: value for key, value in spec.allocations.items() if key != str(ordinal)}
        released = (*self._times_of(found.node, spec.released, now), (ordinal, now))
        history = (*spec.history[1 - HISTORY :], self._past(ordinal, found, now))
        return self._with(allocations=left, released=released, history=history)

    def made_ready(self) -> "Block":
        """The block once no other overlaps it."""
        return self._with(ready=True)

    def held(self, ordinal: int) -> Held:
        """The allocation at an ordinal that is allocated."""
        return Held(self.name, ordinal, self.record.spec.allocations[str(ordinal)].id, self.address_of(ordinal))

    def of_handle(self, handle: str) -> tuple[Held, ...]:
        """Every allocation of a handle."""
        owned = self.record.spec.allocations.items()
        return tuple(self.held(int(key)) for key, allocation in owned if allocation.handle == handle)

    def of_id(self, allocation_id: str) -> Held | None:
        """The allocation that carries an id, if it is here."""
        for key, found in self.record.spec.allocations.items():
            if found.id == allocation_id:
                return self.held(int(key))
        return None

    def idle_since(self) -> float:
        """When the last address was released, or the block claimed; only meaningful while it is empty."""
        spec = self.record.spec
        return max((at for _, at in spec.released), default=spec.claimed_at)

    def not_ahead(self, now: float) -> "Block":
        """The block with times that lie ahead of `now` put back to it: they are of clocks that went ahead."""
        spec = self.record.spec
        if spec.claimed_at <= now and not _some_ahead(spec.released, now):
            return self
        return self._with(claimed_at=min(spec.claimed_at, now), released=_not_ahead(spec.released, now))

    def _times_of(self, node: str, released: _Released, now: float) -> _Released:
        """What is released, as who changes an address of `node` writes it: who borrows leaves others' times alone."""
        return _not_ahead(released, now) if node == self.record.spec.node else released

    def _past(self, ordinal: int, ended: Allocation, now: float) -> Past:
        return Past(
            ordinal=ordinal,
            handle="" if ended.pod else ended.handle,
            namespace=ended.namespace,
            pod=ended.pod,
            node="" if ended.node == self.record.spec.node else ended.node,
            since=ended.since,
            until=max(ended.since, now),
        )

    def check_thawed(self) -> None:
        """Return unless a migration holds the block.

        Raises:
            Frozen: it does.
        """
        if self.record.spec.frozen:
            raise Frozen(self.name, self.record.spec.frozen)

    def _with(self, **changes: object) -> "Block":
        spec = msgspec.structs.replace(self.record.spec, **changes)
        return Block(msgspec.structs.replace(self.record, spec=spec), self.network)


def new_block(network: Network, pool: str, node: str, machine: str, now: float) -> Block:
    """An empty block that isn't ready, as it is created."""
    spec = IPBlockSpec(
        cidr=str(network), pool=pool, cell=str(cell_of(network)), node=node, machine=machine, claimed_at=now
    )
    return Block(IPBlock(metadata=Metadata(name=block_name(network)), spec=spec), network)


def _allocation(owner: Owner, allocation_id: str, now: float) -> Allocation:
    """What a block says of an owner, checked here: once it is in a batch, it would fail that for everybody."""
    made = Allocation(
        handle=owner.handle,
        id=allocation_id,
        pod=owner.pod,
        namespace=owner.namespace,
        uid=owner.uid,
        node=owner.node,
        since=now,
        on_link=owner.on_link,
    )
    made.check()
    return made


def _cool(released_at: float, now: float, cooldown_s: float) -> bool:
    return released_at + cooldown_s <= now


def _not_ahead(released: _Released, now: float) -> _Released:
    """Release times by a clock that was ahead count as now, so that such an address cools like any other."""
    if not _some_ahead(released, now):
        return released
    return tuple((ordinal, min(at, now)) for ordinal, at in released)


def _some_ahead(released: _Released, now: float) -> bool:
    return max(map(_released_at, released), default=_NEVER) > now
