"""Splitting a pool into equal parts while addresses are given from it.

    1. parts      made, annotated as parts of the pool: both serve, for a pool is no rival of its parts
    2. blocks     labelled with the part that they lie in, each by compare-and-swap, until a list shows none that isn't
    3. pool       disabled: new blocks are claimed in parts only
    4. blocks     those that were claimed meanwhile
    5. pool       deleted
    6. parts      no longer annotated

Who claims a block sees to it afterwards that its pool is there and enabled (`ipam.claim`): so none is claimed in the
pool once it is disabled, and a node that hasn't heard yet is refused for that moment.

No address changes hands: a block stays whose it is, and only its label says another pool. Whatever dies between two
steps, pods get addresses from pool or parts, and splitting again goes on where it ended.

After Calico's `calicoctl ipam split`, which asks for a datastore that is locked meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network

import msgspec

from datastore.errors import AlreadyExists, Conflict, NotFound
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.value import Metadata
from datastore.store import Store, Where
from datastore.transfer import settled
from ipam.block import Block
from ipam.errors import Frozen, IpamError, Migrating
from ipam.pools import SPLIT_OF
from ipam.survey import configuration

PARTS_AT_MOST = 256
_TRIES = 100
"""A busy block changes with each commit of its node."""
Tell = Callable[[str], None]


class CannotSplit(IpamError):
    """This pool can't be split so; `bad_input` says whether it was asked for wrongly."""

    def __init__(self, reason: str, *, bad_input: bool = False) -> None:
        super().__init__(reason)
        self.bad_input = bad_input


async def split(store: Store, name: str, count: int, tell: Tell) -> tuple[str, ...]:
    """Split a pool into so many, called NAME-0 and so on; gives their names.

    Raises:
        CannotSplit: it can't be; nothing was changed.
        Migrating, Frozen: the datastore is being moved; again goes on.
        StoreError: the store can't be used; again goes on.
    """
    migration = (await configuration(store)).migration
    if migration is not None:
        raise Migrating(migration.id)
    parts = await _planned(store, name, count)
    for part in parts:
        await _make(store, part, tell)
    await _label(store, name, parts, tell)
    await _disable(store, name, tell)
    await _delete(store, name, parts, tell)
    for part in parts:
        await _change(store, part.name, _whole)
    return tuple(part.name for part in parts)


async def _planned(store: Store, name: str, count: int) -> list[IPPool]:
    """The parts, those of an earlier run among them."""
    pools = {pool.name: pool for pool in (await store.list(IPPool)).items}
    parts = _parts(pools[name], count) if name in pools else _left(name, count, pools)
    if not parts:
        raise CannotSplit(f"IPPool {name} is not in the datastore; `tortiectl get ippools` lists them")
    wanted = {part.name: part.spec.cidr for part in parts}
    for other in pools.values():
        is_part = other.metadata.annotations.get(SPLIT_OF) == name
        if is_part and wanted.get(other.name) != other.spec.cidr:
            raise CannotSplit(f"IPPool {name} is being split into other parts already: go on with that", bad_input=True)
        if name in pools and other.name in wanted and not is_part:
            raise CannotSplit(f"IPPool {other.name} is there already, and no part of {name}: delete or rename it")
    for block in (await store.list(IPBlock, Where("pool", name))).items:
        if _part_of(block, parts) is None:
            raise CannotSplit(f"block {block.spec.cidr} of {name} is in none of the parts; see `tortiectl ipam check`")
    return parts


def _left(name: str, count: int, pools: Mapping[str, IPPool]) -> list[IPPool]:
    """The parts of a pool that is gone, if there are so many, of one size and side by side."""
    parts = [pools[part] for number in range(count) if (part := f"{name}-{number}") in pools]
    networks = [ip_network(part.spec.cidr) for part in parts]
    if len(parts) < max(count, 2) or len({(one.version, one.prefixlen) for one in networks}) > 1:
        return []
    return parts if networks[0].supernet(count.bit_length() - 1).overlaps(networks[-1]) else []


def _parts(pool: IPPool, count: int) -> list[IPPool]:
    network, bits = ip_network(pool.spec.cidr), count.bit_length() - 1
    if not 2 <= count <= PARTS_AT_MOST or count != 1 << bits:
        raise CannotSplit(f"a pool is split into 2, 4, 8 ... {PARTS_AT_MOST} parts, not {count}", bad_input=True)
    if network.prefixlen + bits > pool.block_prefix_len:
        largest = 1 << (pool.block_prefix_len - network.prefixlen)
        reason = f"IPPool {pool.name} has {largest} blocks of /{pool.block_prefix_len}, too few for {count} parts"
        raise CannotSplit(reason, bad_input=True)
    annotations = {**pool.metadata.annotations, SPLIT_OF: pool.name}
    return [
        IPPool(
            metadata=Metadata(name=f"{pool.name}-{number}", labels=pool.metadata.labels, annotations=annotations),
            spec=msgspec.structs.replace(pool.spec, cidr=str(subnet)),
        )
        for number, subnet in enumerate(network.subnets(prefixlen_diff=bits))
    ]


async def _make(store: Store, part: IPPool, tell: Tell) -> None:
    try:
        await settled.create(store, part)
    except AlreadyExists:
        return  # of an earlier run
    tell(f"pool {part.name} {part.spec.cidr}: made")


async def _label(store: Store, name: str, parts: Sequence[IPPool], tell: Tell) -> None:
    """Return once no block is labelled with the pool."""
    labelled = 0
    while blocks := (await store.list(IPBlock, Where("pool", name))).items:
        for block in blocks:
            await _label_one(store, name, block, parts)
        labelled += len(blocks)
    if labelled:
        tell(f"{labelled} blocks: labelled with the part that they lie in")


async def _label_one(store: Store, name: str, block: IPBlock, parts: Sequence[IPPool]) -> None:
    for _ in range(_TRIES):
        part = _part_of(block, parts)
        if block.spec.pool != name or part is None:
            return
        if block.spec.frozen:
            raise Frozen(block.name, block.spec.frozen)
        try:
            spec = msgspec.structs.replace(block.spec, pool=part.name)
            await settled.update(store, msgspec.structs.replace(block, spec=spec))
            return
        except Conflict:
            pass
        except NotFound:
            return
        try:
            block = await store.get(IPBlock, block.name)
        except NotFound:
            return
    raise CannotSplit(f"block {block.spec.cidr} changes all the time: split again, and it goes on")


def _part_of(block: IPBlock, parts: Sequence[IPPool]) -> IPPool | None:
    network = Block.read(block).network
    for part in parts:
        whole = ip_network(part.spec.cidr)
        if network.version == whole.version and network.prefixlen >= whole.prefixlen and network.overlaps(whole):
            return part
    return None


async def _disable(store: Store, name: str, tell: Tell) -> None:
    if await _change(store, name, _disabled):
        tell(f"pool {name}: disabled")


async def _delete(store: Store, name: str, parts: Sequence[IPPool], tell: Tell) -> None:
    """Delete the pool at a moment when no block is labelled with it."""
    for _ in range(_TRIES):
        await _label(store, name, parts, tell)
        try:
            await settled.delete(store, await store.get(IPPool, name))
        except NotFound:
            return
        except Conflict:
            continue
        tell(f"pool {name}: deleted")
        return
    raise CannotSplit(f"IPPool {name} changes all the time: split again, and it goes on")


async def _change(store: Store, name: str, change: Callable[[IPPool], IPPool]) -> bool:
    """Change a pool; False if it is so already, or gone."""
    for _ in range(_TRIES):
        try:
            found = await store.get(IPPool, name)
            wanted = change(found)
            if wanted == found:
                return False
            await settled.update(store, wanted)
            return True
        except NotFound:
            return False
        except Conflict:
            continue
    raise CannotSplit(f"IPPool {name} changes all the time: split again, and it goes on")


def _disabled(pool: IPPool) -> IPPool:
    return msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, disabled=True))


def _whole(part: IPPool) -> IPPool:
    annotations = {name: value for name, value in part.metadata.annotations.items() if name != SPLIT_OF}
    return msgspec.structs.replace(part, metadata=msgspec.structs.replace(part.metadata, annotations=annotations))
