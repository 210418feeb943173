"""ipam show: how full pools and blocks are, who has an address, which addresses a pod has."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

import click

from ctl import output
from ctl.failures import Failure
from ctl.lab_commands import named
from ctl.location import Choice, cluster_options
from datastore.resources.ipblock import Allocation, IPBlock, cell_of
from datastore.resources.ippool import COUNT_MAX, IPPool, IPPoolStatus
from datastore.resources.ipreservation import IPReservation
from datastore.resources.names import parse_address
from datastore.store import Store, Where
from ipam.block import Address, Block
from ipam.owners import called
from ipam.reserved import Reserved
from ipam.standing import BlockUsage, Standing, Whereabouts, of_block, whereabouts
from ipam.survey import configuration
from ipam.usage import usage

_NO = 1


@click.command(epilog="Example: tortiectl ipam show --ip 10.65.0.7")
@click.option("--blocks", is_flag=True, help="Each block, instead of each pool.")
@click.option("--ip", "address", metavar="ADDRESS", help="Who has this address, or why nobody has.")
@click.option("--pod", metavar="NS/NAME", help="Which addresses this pod has.")
@output.form_option
@cluster_options
def show(blocks: bool, address: str | None, pod: str | None, form: str, cluster: Choice) -> int:
    """Show pools and how full they are; or each block, one address, or one pod's addresses.

    Exit 1 for an address outside every pool, and for a pod without one.
    """
    if sum((blocks, address is not None, pod is not None)) > 1:
        raise click.UsageError("--blocks, --ip and --pod exclude each other")
    location = cluster.locate()

    async def ask() -> int:
        async with location.store() as store:
            if address is not None:
                return _show_address(await _address(store, parse_address(address, "--ip")), form)
            if pod is not None:
                return _show_pod(await _pod(store, *named(pod)), pod, form)
            return await _show_pools(store, form, blocks=blocks)

    return asyncio.run(ask())


# Pools and blocks


async def _show_pools(store: Store, form: str, *, blocks: bool) -> int:
    pools = sorted((await store.list(IPPool)).items, key=lambda one: one.name)
    reservations = (await store.list(IPReservation)).items
    cooldown_s = (await configuration(store)).cooldown_seconds
    records = (await store.list(IPBlock)).items
    now, reserved = time.time(), Reserved.of(reservations)
    counted = [of_block(block, reserved, now, cooldown_s) for block in sorted(map(Block.read, records), key=_place)]
    if blocks:
        _print_blocks(counted, form)
        return 0
    statuses = usage(pools, records, reservations)
    _print_pools([_Full.of(pool, statuses[pool.name], reserved, counted) for pool in pools], form)
    return 0


@dataclass(frozen=True, slots=True)
class _Full:
    """How full a pool is, with what its status doesn't say."""

    pool: IPPool
    status: IPPoolStatus
    reserved: int
    cooling: int
    borrowed: int
    blocks_at_most: int

    @classmethod
    def of(cls, pool: IPPool, status: IPPoolStatus, reserved: Reserved, blocks: Sequence[BlockUsage]) -> "_Full":
        network = ip_network(pool.spec.cidr)
        inside = [one for one in blocks if one.block.network.overlaps(network)]
        return cls(
            pool,
            status,
            reserved.count(network) - sum(reserved.count(one.block.network) - one.reserved for one in inside),
            sum(one.cooling for one in inside),
            sum(one.borrowed for one in inside),
            min(1 << (pool.block_prefix_len - network.prefixlen), COUNT_MAX),
        )


def _print_pools(pools: Sequence[_Full], form: str) -> None:
    if form == "json":
        output.as_json({"items": [_pool_fields(one) for one in pools]})
        return
    headings = ["POOL", "CIDR", "BLOCKS", "SIZE", "USED", "FREE", "USED%", "BORROWED", "RESERVED"]
    rows = [
        [
            one.pool.name + (" (disabled)" if one.pool.spec.disabled else ""),
            one.pool.spec.cidr,
            f"{one.status.blocks}/{_short(one.blocks_at_most)}",
            _short(one.status.capacity),
            one.status.used,
            _short(one.status.free),
            f"{100 * one.status.used // one.status.capacity}%",
            one.borrowed,
            _short(one.reserved),
        ]
        for one in pools
    ]
    output.table(headings, rows)


def _pool_fields(one: _Full) -> dict[str, object]:
    return {
        "name": one.pool.name,
        "cidr": one.pool.spec.cidr,
        "blockSize": one.pool.block_prefix_len,
        "disabled": one.pool.spec.disabled,
        "capacity": one.status.capacity,
        "used": one.status.used,
        "free": one.status.free,
        "reserved": one.reserved,
        "cooling": one.cooling,
        "borrowed": one.borrowed,
        "blocks": one.status.blocks,
        "blocksAtMost": one.blocks_at_most,
    }


def _print_blocks(blocks: Sequence[BlockUsage], form: str) -> None:
    if form == "json":
        output.as_json({"items": [_block_fields(one) for one in blocks]})
        return
    headings = ["BLOCK", "POOL", "NODE", "USED", "FREE", "COOLING", "BORROWED", "STATE"]
    rows = [
        [
            one.block.network,
            one.block.record.spec.pool,
            one.block.record.spec.node,
            one.used,
            one.free,
            one.cooling,
            one.borrowed,
            _state(one.block),
        ]
        for one in blocks
    ]
    output.table(headings, rows)


def _block_fields(one: BlockUsage) -> dict[str, object]:
    spec = one.block.record.spec
    return {
        "name": one.block.name,
        "cidr": str(one.block.network),
        "pool": spec.pool,
        "node": spec.node,
        "machine": spec.machine,
        "ready": spec.ready,
        "frozen": bool(spec.frozen),
        "size": one.block.network.num_addresses,
        "used": one.used,
        "free": one.free,
        "reserved": one.reserved,
        "cooling": one.cooling,
        "borrowed": one.borrowed,
    }


def _state(block: Block) -> str:
    return "frozen" if block.record.spec.frozen else "ready" if block.record.spec.ready else "claiming"


def _short(number: int) -> str:
    """A count as people read it; an IPv6 pool's has 16 digits."""
    if number >= COUNT_MAX:
        return "2^53+"
    return str(number) if number < 10**9 else f"2^{number.bit_length() - 1}"


def _place(block: Block) -> tuple[int, int]:
    return block.network.version, int(block.network.network_address)


# Addresses


async def _address(store: Store, address: Address) -> Whereabouts:
    cell = Where("cell", str(cell_of(ip_network(address))))
    return whereabouts(
        address,
        map(Block.read, (await store.list(IPBlock, cell)).items),
        (await store.list(IPPool)).items,
        (await store.list(IPReservation)).items,
        time.time(),
        (await configuration(store)).cooldown_seconds,
    )


def _show_address(found: Whereabouts, form: str) -> int:
    if form == "json":
        output.as_json(_address_fields(found))
    else:
        click.echo(f"{found.address}: {_told(found)}")
    return _NO if found.standing is Standing.OUTSIDE else 0


def _told(found: Whereabouts) -> str:
    in_block = "no block has it yet"
    if found.block is not None:
        in_block = f"block {found.block.network} of node {found.block.record.spec.node}"
    match found.standing:
        case Standing.ALLOCATED if found.allocation is not None:
            one = found.allocation
            borrowed = f", borrowed by node {one.node}" if _is_borrowed(found) else ""
            return f"{called(one)} has it since {output.when(one.since)}; {in_block}{borrowed}; handle {one.handle}"
        case Standing.COOLING:
            return f"free, but not before {output.when(found.until)}: it was just released; {in_block}"
        case Standing.RESERVED:
            return f"nobody has it, and only who asks for it gets it: IPReservation {found.reservation}; {in_block}"
        case Standing.FREE:
            return f"free; pool {found.pool}, {in_block}"
        case _:
            return "outside every pool: tortiectl get ippools"


def _is_borrowed(found: Whereabouts) -> bool:
    block, one = found.block, found.allocation
    return block is not None and one is not None and one.node != block.record.spec.node


def _address_fields(found: Whereabouts) -> dict[str, object]:
    block = found.block
    return {
        "address": str(found.address),
        "state": found.standing.value,
        "pool": found.pool,
        "block": str(block.network) if block is not None else "",
        "node": block.record.spec.node if block is not None else "",
        "borrowed": _is_borrowed(found),
        "owner": _owner_fields(found.allocation) if found.allocation is not None else None,
        "reservation": found.reservation,
        "freeFrom": output.when(found.until) if found.until else "",
    }


def _owner_fields(one: Allocation) -> dict[str, object]:
    return {
        "handle": one.handle,
        "id": one.id,
        "namespace": one.namespace,
        "pod": one.pod,
        "uid": one.uid,
        "node": one.node,
        "since": output.when(one.since),
    }


async def _pod(store: Store, namespace: str, pod: str) -> list[Whereabouts]:
    blocks = sorted(map(Block.read, (await store.list(IPBlock)).items), key=_place)
    return [
        Whereabouts(block.address_of(int(ordinal)), Standing.ALLOCATED, block.record.spec.pool, block, one)
        for block in blocks
        for ordinal, one in block.record.spec.allocations.items()
        if (one.namespace, one.pod) == (namespace, pod)
    ]


def _show_pod(found: Sequence[Whereabouts], pod: str, form: str) -> int:
    if form == "json":
        output.as_json({"items": [_address_fields(one) for one in found]})
    elif found:
        output.table(["ADDRESS", "BLOCK", "NODE", "SINCE", "HANDLE"], [_row(one) for one in found])
    else:
        raise Failure(f"{pod} has no address", _NO, f"had it once? tortiectl ipam history --pod {pod}")
    return 0 if found else _NO


def _row(found: Whereabouts) -> list[object]:
    block, one = found.block, found.allocation
    if block is None or one is None:
        return [found.address]
    return [found.address, block.network, one.node, output.when(one.since), one.handle]
