"""Which pools may serve a request, and where in a pool a node looks for a new block.

    asked for by name or CIDR     those, in that order, whatever their selectors and mode say
    certain addresses asked for   those that have some
    otherwise                     Automatic ones whose selectors match the node and the pod's namespace, by name

In any case a pool must be enabled, allow the use, make sense, and be in conflict with no other. (Source for what
selectors and requests have to do with each other: projectcalico/calico libcalico-go/lib/ipam determinePools.)

Two pools that overlap can come about (two admins at once, kubectl): the one that came later, by name where nobody knows
when, is not used. Should nodes see it differently for a moment, no address is doubled all the same: blocks decide.

Each node walks the pool's cells (a /20 or /116: the largest blocks) from a place that its own name decides, so that two
nodes rarely try for one block, and one node's processes always try the same. What is taken is asked of the store one
cell at a time: a claim costs the same with ten blocks as with ten thousand.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from datastore.errors import Invalid
from datastore.resources.ipblock import cell_of
from datastore.resources.ippool import DEFAULT_BLOCK, IPPool
from datastore.resources.selector_parser import parse
from ipam.block import Among, Block, Network
from ipam.errors import NoPool
from ipam.reserved import NOTHING, Reserved

WORKLOAD, TUNNEL = "Workload", "Tunnel"
"""Of IPPool's `allowedUses`: pods and addresses taken by hand; ends of tunnels."""
SPLIT_OF = "tortie.dev/split-of"
"""Annotation of a pool that is a part of another one, which is about to go (`ipam.split`)."""
_MANUAL = "Manual"
_NEVER = "Never"
CELLS_AT_MOST = 1 << 16
"""Cells of one pool that a claim looks at before it calls the pool exhausted; a /8 has 4,096."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What of an IPPool decides about addresses."""

    name: str
    network: Network
    block_prefix: int

    def holds(self, block: Block) -> bool:
        """Whether a block was made for this pool and still lies in it."""
        return block.record.spec.pool == self.name and _within(block.network, self.network)


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a pool is to be chosen: what its selectors look at."""

    use: str = WORKLOAD
    node_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] | None = field(default_factory=dict)
    """None: of some namespace, nobody knows which."""


ANYBODY = Asker()


class Catalogue:
    """All pools, read once; made anew when one changes."""

    def __init__(self, pools: Iterable[IPPool] = ()) -> None:
        self.resources = tuple(pools)
        wrong = faults(self.resources)
        sound = sorted((pool for pool in self.resources if pool.name not in wrong), key=lambda pool: pool.name)
        overlapping = {name: f"overlaps IPPool {other}" for name, other in conflicts(sound).items()}
        self.unused: Mapping[str, str] = wrong | overlapping
        """Pools that aren't used although they are enabled, with the reason."""
        self._usable = [
            (pool_of(pool), pool) for pool in sound if not pool.spec.disabled and pool.name not in self.unused
        ]

    def eligible(
        self, family: int, asked: Sequence[str] = (), among: Among | None = None, asker: Asker = ANYBODY
    ) -> tuple[Pool, ...]:
        """The pools of a family that may serve, in the order asked for (by name or CIDR), else by name.

        Raises:
            NoPool: there is none.
        """
        named = bool(asked) or among is not None
        usable = {
            pool.name: pool
            for pool, resource in self._usable
            if pool.network.version == family
            and asker.use in resource.spec.allowed_uses
            and (named or _is_for(resource, asker))
        }
        if asked:
            by_cidr = {str(pool.network): pool.name for pool in usable.values()}
            wanted = [by_cidr.get(_canonical(text), text) for text in asked]
            usable = {name: usable[name] for name in wanted if name in usable}
        if not usable:
            raise NoPool(family, tuple(asked), self._why_not(asked))
        return tuple(usable.values())

    def tunnelled(self, family: int, node_labels: Mapping[str, str]) -> tuple[str, ...]:
        """The pools in which a node with these labels needs the end of a tunnel: those with an encapsulation."""
        asker = Asker(TUNNEL, node_labels)
        return tuple(
            pool.name
            for pool, resource in self._usable
            if pool.network.version == family
            and TUNNEL in resource.spec.allowed_uses
            and (resource.spec.vxlan_mode, resource.spec.ipip_mode) != (_NEVER, _NEVER)
            and _is_for(resource, asker)
        )

    def _why_not(self, asked: Sequence[str]) -> str:
        """Why pools that people may think of aren't used."""
        names = {pool.spec.cidr: pool.name for pool in self.resources}
        named = {names.get(text, text) for text in asked} or self.unused.keys()
        return "; ".join(f"{name} {self.unused[name]}" for name in sorted(named) if name in self.unused)


def faults(pools: Iterable[IPPool]) -> dict[str, str]:
    """What is wrong with those pools that don't pass their check: Kubernetes can't judge a selector."""
    found = {}
    for pool in pools:
        try:
            pool.check()
        except Invalid as error:
            found[pool.name] = f"is wrong: {error}"
    return found


def conflicts(pools: Iterable[IPPool]) -> dict[str, str]:
    """The pools that overlap one that was there before, each with its name.

    Kubernetes says when an object was made; where nobody does, names decide. All nodes come to the same: it follows
    from the pools alone, which have passed their check. A pool that is being split is no rival of its parts.
    """
    kept: list[tuple[str, Network]] = []
    found: dict[str, str] = {}
    for pool in sorted(pools, key=lambda pool: (_made_at(pool), pool.name)):
        network = ip_network(pool.spec.cidr)
        whole = pool.metadata.annotations.get(SPLIT_OF)
        rivals = (name for name, there in kept if there.version == network.version and there.overlaps(network))
        other = next((name for name in rivals if name != whole), "")
        if other:
            found[pool.name] = other
        else:
            kept.append((pool.name, network))
    return found


def cells(pool: Pool, node: str, among: Among | None = None, reserved: Reserved = NOTHING) -> Iterator[Network]:
    """The cells of a pool, from the place that the node's name decides, around to the one before it.

    Where there is a choice `among` some addresses only, the cells of these; and none where all of the pool is reserved,
    unless for who asks for one single address.
    """
    single = among is not None and among.single
    for area in (pool.network,) if among is None else _areas(pool, among):
        first = cell_of(_network(int(area.network_address), area.max_prefixlen, area.version))
        bits = max(0, first.prefixlen - area.prefixlen)
        start = _seed(pool, node) % (1 << bits)
        for step in range(min(1 << bits, CELLS_AT_MOST)):
            cell = _sibling(first, (start + step) % (1 << bits))
            if single or not reserved.covers(cell if cell.prefixlen >= pool.network.prefixlen else pool.network):
                yield cell


def candidates(
    pool: Pool,
    cell: Network,
    node: str,
    taken: Iterable[Network],
    among: Among | None = None,
    reserved: Reserved = NOTHING,
) -> Iterator[Network]:
    """The blocks of a cell that overlap none of `taken`, from the place that the node's name decides.

    Only those with some of `among`, and none that is wholly reserved, unless for who asks for one single address.
    """
    inside = cell if cell.prefixlen >= pool.network.prefixlen else pool.network
    if among is not None and among.single:
        (only,) = among.ranges
        wanted = _block_at(only.network, pool.block_prefix)
        if _within(wanted, inside) and not any(wanted.overlaps(other) for other in taken):
            yield wanted
        return
    occupied = list(taken)
    bits = pool.block_prefix - inside.prefixlen
    first = _network(int(inside.network_address), pool.block_prefix, inside.version)
    start = (_seed(pool, node) >> 20) % (1 << bits)
    for step in range(1 << bits):
        block = _sibling(first, (start + step) % (1 << bits))
        if among is not None and not among.meets(block):
            continue
        if not reserved.covers(block) and not any(block.overlaps(other) for other in occupied):
            yield block


def _areas(pool: Pool, among: Among) -> Iterator[Network]:
    """What of a pool has such addresses."""
    for one in among.ranges:
        if one.meets(pool.network):
            yield one.network if _within(one.network, pool.network) else pool.network


def pool_of(resource: IPPool) -> Pool:
    """What of an IPPool decides about addresses; it has passed its check."""
    network = ip_network(resource.spec.cidr)
    return Pool(resource.name, network, resource.spec.block_size or DEFAULT_BLOCK[network.version])


def _is_for(resource: IPPool, asker: Asker) -> bool:
    """Whether a pool serves those who name none."""
    spec = resource.spec
    if spec.assignment_mode == _MANUAL or not parse(spec.node_selector).matches(asker.node_labels):
        return False
    if asker.use != WORKLOAD or asker.namespace_labels is None:
        return True
    return parse(spec.namespace_selector).matches(asker.namespace_labels)


def _made_at(pool: IPPool) -> str:
    """When Kubernetes made an object, in RFC 3339: text that is ordered as its times are."""
    return str(pool.metadata.unknown.get("creationTimestamp", ""))


def _seed(pool: Pool, node: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{pool.name}\0{node}".encode()).digest()[:16], "big")


def _block_at(network: Network, prefix_len: int) -> Network:
    """The block of this size that holds a network."""
    return network.supernet(new_prefix=prefix_len)


def _sibling(first: Network, number: int) -> Network:
    """The network of the same size, `number` places after `first`."""
    start = int(first.network_address) + number * first.num_addresses
    return _network(start, first.prefixlen, first.version)


def _network(start: int, prefix_len: int, version: int) -> Network:
    return IPv4Network((start, prefix_len)) if version == 4 else IPv6Network((start, prefix_len))


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.overlaps(outer)


def _canonical(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        return text
