"""IPBlock: the only record of who owns which address.

A block is a small CIDR that belongs to one node. Everything that IPAM decides is one compare-and-swap on it; the rules
are in `ipam/DESIGN.md` and the algebra (assign, release, adopt) in `ipam.block`. Here is the data and what makes it
consistent:

    ordinal   0 1 2 3 4 5 6 ... size-1       address = first address of the CIDR + ordinal
              a a r a r | never used         a: in `allocations`; r: in `released`
                        fresh = 5

Its name is a bijection of its CIDR, so that two creators of one block meet on one name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import ClassVar, NamedTuple

import msgspec

from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.ippool import BLOCK_RANGE
from datastore.resources.value import Kind, Resource, Value, check_below

HISTORY = 64
"""Past owners that a block remembers: one for each address of a default block."""
_ID_DIGITS = 16
_ORDINALS = {str(ordinal): ordinal for ordinal in range(4096)}
"""Every way to write an ordinal of the largest block; cheaper than parsing in what each assignment pays for."""


class Allocation(Value, frozen=True, kw_only=True):
    """Who owns an address. `since` is in Unix seconds."""

    handle: str
    """Network, container id and interface: what a runtime names an attachment by."""
    id: str
    """16 hex digits, chosen at random by the caller before the write: a later owner of the address has another."""
    pod: str = ""
    namespace: str = ""
    uid: str = ""
    node: str
    """The node that asked; another than the block's when it borrowed."""
    since: float = 0
    on_link: bool = False
    """Another plugin has the address on a link of its own (`tortie-ipam` below a bridge): no /32 route leads to it."""

    def check(self) -> None:
        """Judge the identities; pod and namespace are empty for what is no pod.

        Raises:
            Invalid: names the field within the allocation.
        """
        if not self.handle:
            raise Invalid("handle", "is empty")
        _check_owner(self.id, self.node, self.pod, self.namespace)
        if not is_time(self.since):
            raise names.invalid("since", self.since, "is no Unix time")


def _check_owner(allocation_id: str, node: str, pod: str, namespace: str) -> None:
    if len(allocation_id) != _ID_DIGITS or allocation_id.strip("0123456789abcdef"):
        raise names.invalid("id", allocation_id, "is no allocation id (16 hex digits)")
    names.check_subdomain(node, "node")
    if pod:
        names.check_pod_name(pod, "pod")
    if namespace:
        names.check_label_name(namespace, "namespace")


class Past(Value, frozen=True, kw_only=True):
    """Who had an address once, and from when to when in Unix seconds."""

    ordinal: int
    handle: str = ""
    """Only for what was no pod's."""
    namespace: str = ""
    pod: str = ""
    node: str = ""
    """Where it was another than the block's."""
    since: float = 0
    until: float = 0


class IPBlockSpec(Value, frozen=True, kw_only=True):
    """A block's owner and its addresses' owners. Times are Unix seconds."""

    cidr: str
    pool: str
    cell: str
    """The enclosing /20 or /116: all blocks that could overlap have the same."""
    node: str
    machine: str = ""
    """Identity of the owner's machine, since a node's name may come back on another."""
    ready: bool = False
    """Set by the first assignment, once no other block overlaps; nobody assigns before."""
    claimed_at: float = 0
    allocations: Mapping[str, Allocation] = msgspec.field(default_factory=dict)
    """By ordinal in decimal."""
    released: tuple[tuple[int, float], ...] = ()
    """Freed ordinals with their release times, oldest first."""
    fresh: int = 0
    """Ordinals from here on were never used."""
    history: tuple[Past, ...] = ()
    """The last owners that released or lost an address of this block, oldest first, at most `HISTORY`."""
    frozen: str = ""
    """Of a migration to another datastore: nothing is given or freed here, until the same hand thaws it."""

    def check(self) -> None:
        """Judge the block's place, its owner and every ordinal.

        Raises:
            Invalid: names the field within the spec.
        """
        place = _place(self.cidr)
        if self.cell != place.cell:
            raise names.invalid("cell", self.cell, f"is not {place.cell}, the cell of {self.cidr}")
        names.check_subdomain(self.pool, "pool")
        names.check_subdomain(self.node, "node")
        if not is_time(self.claimed_at):
            raise names.invalid("claimedAt", self.claimed_at, "is no Unix time")
        if not 0 <= self.fresh <= place.size:
            raise names.invalid("fresh", self.fresh, f"is outside a block of {place.size}")
        if self.allocations and not self.ready:
            raise Invalid("allocations", "an unready block has none")
        before = _JUDGED.get(self.cidr, _NEVER_JUDGED)
        self._check_released(self._check_allocations(before.allocations))
        if self.history is not before.history:
            self._check_history(place.size)
        if len(_JUDGED) >= _BLOCKS_REMEMBERED:
            _JUDGED.clear()
        _JUDGED[self.cidr] = _Judged(self.allocations, self.history)

    def _check_allocations(self, judged: Mapping[str, Allocation]) -> set[int]:
        taken: set[int] = set()
        for text, allocation in self.allocations.items():
            ordinal = _ORDINALS.get(text, self.fresh)
            if ordinal >= self.fresh:
                raise names.invalid("allocations", text, f"is no ordinal below fresh ({self.fresh})")
            taken.add(ordinal)
            if judged.get(text) is allocation:
                continue
            try:
                allocation.check()
            except Invalid as error:
                raise error.below(f"allocations[{text}]") from None
        return taken

    def _check_released(self, taken: set[int]) -> None:
        ordinals = [ordinal for ordinal, _ in self.released]
        distinct = len(taken.union(ordinals)) == len(taken) + len(ordinals)
        if distinct and all(0 <= ordinal < self.fresh and 0 <= at < math.inf for ordinal, at in self.released):
            return
        for index, (ordinal, at) in enumerate(self.released):
            if not 0 <= ordinal < self.fresh:
                raise names.invalid(f"released[{index}]", ordinal, f"is no ordinal below fresh ({self.fresh})")
            if ordinal in taken:
                raise names.invalid(f"released[{index}]", ordinal, "is allocated, or released twice")
            if not is_time(at):
                raise names.invalid(f"released[{index}]", at, "is no Unix time")
            taken.add(ordinal)

    def _check_history(self, size: int) -> None:
        if len(self.history) > HISTORY:
            raise Invalid("history", f"has {len(self.history)} entries; a block remembers {HISTORY}")
        for index, past in enumerate(self.history):
            if not 0 <= past.ordinal < size:
                raise names.invalid(f"history[{index}].ordinal", past.ordinal, f"is outside a block of {size}")
            if not 0 <= past.since <= past.until < math.inf:
                raise names.invalid(f"history[{index}].until", past.until, "is no Unix time from since on")


class _Judged(NamedTuple):
    allocations: Mapping[str, Allocation]
    history: tuple[Past, ...]


_BLOCKS_REMEMBERED = 1024
_NEVER_JUDGED = _Judged({}, ())
_JUDGED: dict[str, _Judged] = {}
"""What was found in order, by CIDR. Values are frozen, so who meets the same one again needn't look: each assignment
checks its whole block, of which one allocation is new."""


class IPBlock(Resource, frozen=True, kw_only=True):
    """tortie.dev/v1 IPBlock."""

    KIND: ClassVar[Kind] = Kind("tortie.dev", "v1", "IPBlock", "ipblocks", False, ("ipb",))

    spec: IPBlockSpec

    def indexed(self) -> Mapping[str, frozenset[str]]:
        """`node`: the owner and every borrower; `cell` and `pool`."""
        borrowers = {allocation.node for allocation in self.spec.allocations.values()}
        return {
            "node": frozenset({self.spec.node, *borrowers}),
            "cell": frozenset({self.spec.cell}),
            "pool": frozenset({self.spec.pool}),
        }

    def check(self) -> None:
        """Judge metadata and spec, and that the name is the CIDR's.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")
        wanted = _place(self.spec.cidr).name
        if self.name != wanted:
            raise names.invalid("metadata.name", self.name, f"is not {wanted}, the name of {self.spec.cidr}")


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    cell: str
    size: int


@lru_cache(maxsize=1024)
def _place(cidr: str) -> _Place:
    network = names.parse_cidr(cidr, "cidr")
    if network.prefixlen not in BLOCK_RANGE[network.version]:
        raise names.invalid("cidr", cidr, "is no block's size")
    return _Place(block_name(network), str(cell_of(network)), network.num_addresses)


def block_name(cidr: IPv4Network | IPv6Network) -> str:
    """The name of the block `cidr`: 10-65-0-64-26, or all eight groups of an IPv6 address and the length."""
    address = cidr.network_address
    if isinstance(address, IPv4Address):
        groups = [str(byte) for byte in address.packed]
    else:
        groups = [f"{int(group, 16):x}" for group in address.exploded.split(":")]
    return "-".join([*groups, str(cidr.prefixlen)])


# Whoever lists a cell asks for every block of it: parsing costs 40 us each.
@lru_cache(maxsize=8192)
def block_cidr(name: str) -> IPv4Network | IPv6Network:
    """The block that `name` names; undoes `block_name`.

    Raises:
        Invalid: no block has this name.
    """
    groups, _, length = name.rpartition("-")
    text = groups.replace("-", "." if groups.count("-") == 3 else ":")
    try:
        cidr = names.parse_cidr(f"{text}/{length}", "metadata.name")
    except Invalid:
        raise names.invalid("metadata.name", name, "is no block's name") from None
    if block_name(cidr) != name:
        raise names.invalid("metadata.name", name, f"is no block's name; meant is perhaps {block_name(cidr)}")
    return cidr


def cell_of(cidr: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The largest possible block that holds `cidr`, a /20 or /116."""
    return cidr.supernet(new_prefix=BLOCK_RANGE[cidr.version].start)


def is_time(seconds: float) -> bool:
    """Whether this can be a Unix time: JSON has no NaN and no infinity."""
    return 0 <= seconds < math.inf
