"""Which pools may serve a request, and where in a pool a node looks for a new block.

Each node walks the pool's cells (a /20 or /116: the largest blocks) from a place that its own name decides, so that two
nodes rarely try for one block, and one node's processes always try the same. What is taken is asked of the store one
cell at a time: a claim costs the same with ten blocks as with ten thousand.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from datastore.resources.ipblock import cell_of
from datastore.resources.ippool import DEFAULT_BLOCK, IPPool
from ipam.block import Among, Block, Network
from ipam.errors import NoPool

_MANUAL = "Manual"
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


def eligible(
    pools: Iterable[IPPool], family: int, asked: Sequence[str] = (), among: Among | None = None
) -> tuple[Pool, ...]:
    """The enabled pools of a family, in the order asked for (by name or CIDR), else by name.

    A pool whose assignment is `Manual` serves only who asks for it, or for addresses that it has.

    Raises:
        NoPool: there is none.
    """
    enabled = {
        pool.name: _pool(pool)
        for pool in sorted(pools, key=lambda pool: pool.name)
        if not pool.spec.disabled
        and ip_network(pool.spec.cidr).version == family
        and (asked or among is not None or pool.spec.assignment_mode != _MANUAL)
    }
    if asked:
        by_cidr = {str(pool.network): pool.name for pool in enabled.values()}
        wanted = [by_cidr.get(_canonical(text), text) for text in asked]
        enabled = {name: enabled[name] for name in wanted if name in enabled}
    if not enabled:
        raise NoPool(family, tuple(asked))
    return tuple(enabled.values())


def cells(pool: Pool, node: str, among: Among | None = None) -> Iterator[Network]:
    """The cells of a pool, from the place that the node's name decides, around to the one before it.

    Where there is a choice `among` some addresses only, the cells of these.
    """
    for area in (pool.network,) if among is None else _areas(pool, among):
        first = cell_of(_network(int(area.network_address), area.max_prefixlen, area.version))
        bits = max(0, first.prefixlen - area.prefixlen)
        start = _seed(pool, node) % (1 << bits)
        for step in range(min(1 << bits, CELLS_AT_MOST)):
            yield _sibling(first, (start + step) % (1 << bits))


def candidates(pool: Pool, cell: Network, node: str, taken: Iterable[Network]) -> Iterator[Network]:
    """The blocks of a cell that overlap none of `taken`, from the place that the node's name decides."""
    occupied = list(taken)
    inside = cell if cell.prefixlen >= pool.network.prefixlen else pool.network
    bits = pool.block_prefix - inside.prefixlen
    first = _block_at(inside, pool.block_prefix)
    start = (_seed(pool, node) >> 20) % (1 << bits)
    for step in range(1 << bits):
        block = _sibling(first, (start + step) % (1 << bits))
        if not any(block.overlaps(other) for other in occupied):
            yield block


def _areas(pool: Pool, among: Among) -> Iterator[Network]:
    """What of a pool has such addresses."""
    for one in among.ranges:
        if one.meets(pool.network):
            yield one.network if _within(one.network, pool.network) else pool.network


def _pool(resource: IPPool) -> Pool:
    network = ip_network(resource.spec.cidr)
    return Pool(resource.name, network, resource.spec.block_size or DEFAULT_BLOCK[network.version])


def _seed(pool: Pool, node: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{pool.name}\0{node}".encode()).digest()[:16], "big")


def _block_at(network: Network, prefix_len: int) -> Network:
    return _network(int(network.network_address), prefix_len, network.version)


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
