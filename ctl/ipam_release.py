"""ipam release: an address given back by hand; by way of a node's agent, or straight in the datastore."""

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_network

import click

from ctl import output
from ctl.failures import Failure
from ctl.location import Choice, cluster_options
from datastore.resources.ipblock import Allocation, IPBlock, cell_of
from datastore.resources.names import parse_address
from datastore.resources.node import Node
from datastore.store import Store, Where
from ipam import claims
from ipam.block import Block
from ipam.changes import Release
from ipam.claims import Claims
from ipam.group_commit import BlockWriter
from ipam.owners import Owned, called
from ipam.reclaim import Api, Kind, home_of, kind_of

_NO = 1


@click.command(epilog="Example: tortiectl ipam release --ip 10.65.0.7 --force")
@click.argument("what", required=False)
@click.option("--ip", "address", metavar="ADDRESS", help="This address, whoever has it.")
@click.option("--handle", metavar="HANDLE", help="All addresses of this handle.")
@click.option("--force", is_flag=True, help="Also a pod's; never while a live pod says that it has it.")
@output.form_option
@click.option("--node", default="", help="The node whose agent is asked to free WHAT.")
@cluster_options
def release(
    what: str | None, address: str | None, handle: str | None, force: bool, form: str, node: str, cluster: Choice
) -> None:
    """Free what was taken by hand: WHAT is its NAME or one ADDRESS, and a node's agent is asked.

    With --ip or --handle the datastore itself is written, agents or not.
    """
    if sum(one is not None for one in (what, address, handle)) != 1:
        raise click.UsageError("give one of WHAT, --ip and --handle")
    if what is not None:
        from ctl.ipam_commands import release_by_agent

        release_by_agent(what, form, node, cluster)
        return
    location = cluster.locate()

    async def work() -> list[Owned]:
        async with location.store() as store:
            return await _release(store, address, handle, force=force)

    _print(asyncio.run(work()), form)


async def _release(store: Store, address: str | None, handle: str | None, *, force: bool) -> list[Owned]:
    found = await _found(store, address, handle)
    if not found:
        raise Failure(f"nobody has {address}" if address else f"{handle} has no address", _NO, "tortiectl ipam show")
    known = await claims.read(store)
    nodes = {node.name: node for node in (await store.list(Node)).items}
    for one in found:  # all of it is judged before the first write
        _check(one, known, nodes, force=force)
    for one in found:
        ordinal = int(one.address) - int(one.block.network.network_address)
        await BlockWriter(store, one.block).submit(Release(one.block.held(ordinal), time.time()))
    return found


async def _found(store: Store, address: str | None, handle: str | None) -> list[Owned]:
    wanted = parse_address(address, "--ip") if address else None
    where = Where("cell", str(cell_of(ip_network(wanted)))) if wanted is not None else None
    return [
        Owned(block.address_of(int(ordinal)), block, one)
        for block in map(Block.read, (await store.list(IPBlock, where)).items)
        for ordinal, one in block.record.spec.allocations.items()
        if (one.handle == handle if wanted is None else block.address_of(int(ordinal)) == wanted)
    ]


def _check(one: Owned, known: Claims, nodes: dict[str, Node], *, force: bool) -> None:
    """Return if an address may be freed.

    Raises:
        Failure: it may not.
    """
    found, kind = one.allocation, kind_of(one.allocation.handle)
    if kind is Kind.MANUAL:
        return
    if not force:
        hint = "if that is gone for good, say --force"
        raise Failure(f"{one.address} is {_whose(found, kind)}: it is freed with that", _NO, hint)
    home = nodes.get(home_of(found.handle, found.node))
    if kind is Kind.TUNNEL and home is not None:
        raise Failure(f"{one.address} is the tunnel's end of node {home.name}, which is there", _NO)
    said = known.of(one.address, found)
    if kind is Kind.ATTACHMENT and said in (Api.NAMES, Api.STARTING):
        raise Failure(f"{one.address} is {_whose(found, kind)}, and in use: {said.value}", _NO, "delete the pod")


def _whose(found: Allocation, kind: Kind) -> str:
    return (
        f"the tunnel's end of node {home_of(found.handle, found.node)}" if kind is Kind.TUNNEL else called(found) + "'s"
    )


def _print(freed: Sequence[Owned], form: str) -> None:
    if form == "json":
        output.as_json({"items": [_fields(one) for one in freed]})
        return
    rows = [[one.address, one.allocation.handle, one.allocation.node, one.block.network] for one in freed]
    output.table(["FREED", "HANDLE", "NODE", "BLOCK"], rows)


def _fields(one: Owned) -> dict[str, object]:
    found = one.allocation
    return {
        "address": str(one.address),
        "handle": found.handle,
        "id": found.id,
        "namespace": found.namespace,
        "pod": found.pod,
        "node": found.node,
        "block": str(one.block.network),
    }
