"""ipam simulate: whether pools are large enough, tried with the allocator itself."""

import asyncio
import dataclasses
import math
from collections.abc import Sequence

import click
import msgspec

from ctl import output
from ctl.failures import Failure
from ctl.location import Choice, cluster_options
from datastore.errors import Invalid
from datastore.resources.ippool import COUNT_MAX, IPPool, IPPoolSpec
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kubernetes import Namespace
from datastore.resources.node import Node
from datastore.resources.value import Metadata
from ipam.capacity import Occupation, Outcome, Plan, simulate
from ipam.pools import conflicts
from ipam.survey import configuration

_TOO_SMALL = 1
_EVENTS_MAX = 5_000_000
"""About half an hour."""


@click.command("simulate", epilog="Example: tortiectl ipam simulate --nodes 100 --pods 3000 --churn 20")
@click.option("--nodes", type=int, required=True, metavar="N", help="Nodes of the cluster.")
@click.option("--pods", type=int, required=True, metavar="M", help="Pods that run at once.")
@click.option("--churn", type=float, default=0.0, metavar="R", help="Pods that end, and as many that start, a second.")
@click.option("--seconds", type=float, default=600.0, show_default=True, help="How long, in time that doesn't pass.")
@click.option("--pool", "pools", multiple=True, metavar="CIDR", help="These pools instead of the cluster's.")
@click.option("--block-size", type=int, metavar="BITS", help="Of the pools given (default: 26, or 122).")
@click.option("--strict-affinity/--borrowing", default=None, help="Instead of the cluster's setting.")
@click.option("--max-blocks", type=int, metavar="K", help="Blocks a node at most, instead of the cluster's.")
@click.option("--cooldown", type=int, metavar="SECONDS", help="Instead of the cluster's.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same outcome.")
@output.form_option
@cluster_options
def simulate_command(
    nodes: int,
    pods: int,
    churn: float,
    seconds: float,
    pools: Sequence[str],
    block_size: int | None,
    strict_affinity: bool | None,
    max_blocks: int | None,
    cooldown: int | None,
    seed: int,
    form: str,
    cluster: Choice,
) -> int:
    """Plan capacity: N nodes and M pods, started and churned in memory, on the cluster's pools or others.

    It is the allocator that agents run, so what it makes of the pools is what they would. Nothing is written anywhere.
    Exit 1 if a pod got no address.
    """
    _check(nodes, pods, churn, seconds)
    plan = _of_given(pools, block_size) if pools else asyncio.run(_of_cluster(cluster))
    if block_size is not None and not pools:
        raise click.UsageError("--block-size is of pools given by --pool")
    changes = {"strict_affinity": strict_affinity, "max_blocks_per_node": max_blocks, "cooldown_seconds": cooldown}
    said = {name: value for name, value in changes.items() if value is not None}
    settings = msgspec.structs.replace(plan.configuration, migration=None, **said)
    settings.check()
    plan = dataclasses.replace(
        plan, nodes=nodes, pods=pods, churn=churn, seconds=seconds, seed=seed, configuration=settings
    )
    outcome = asyncio.run(simulate(plan))
    if form == "json":
        output.as_json(_fields(plan, outcome))
    else:
        _print(plan, outcome)
    return _TOO_SMALL if outcome.refused else 0


def _check(nodes: int, pods: int, churn: float, seconds: float) -> None:
    asked = (("--nodes", nodes, 1), ("--pods", pods, 1), ("--churn", churn, 0.0), ("--seconds", seconds, 0.0))
    for option, number, least in asked:
        if not least <= number < math.inf:
            raise Invalid(option, f"{number:g} is not {least:g} or more")
    if pods + churn * seconds > _EVENTS_MAX:
        raise Invalid("--churn", f"makes more than {_EVENTS_MAX} pods: take fewer seconds")


def _of_given(cidrs: Sequence[str], block_size: int | None) -> Plan:
    given = []
    for number, cidr in enumerate(cidrs):
        pool = IPPool(metadata=Metadata(name=f"pool-{number}"), spec=IPPoolSpec(cidr=cidr, block_size=block_size))
        try:
            pool.check()
        except Invalid as error:
            raise error.below(f"--pool {cidr}") from None
        given.append(pool)
    clash = conflicts(given)
    for name, other in clash.items():
        raise Invalid("--pool", f"{name} overlaps {other}")
    return Plan(1, 1, pools=tuple(given))


async def _of_cluster(cluster: Choice) -> Plan:
    """The cluster's pools, reservations and settings; its nodes' and namespaces' labels are those of the simulated."""
    async with cluster.locate().store() as store:
        pools = tuple(sorted((await store.list(IPPool)).items, key=lambda pool: pool.name))
        if not pools:
            raise Failure("the cluster has no pool", _TOO_SMALL, "give one: --pool CIDR")
        return Plan(
            1,
            1,
            pools=pools,
            reservations=(await store.list(IPReservation)).items,
            configuration=await configuration(store),
            node_labels=tuple(one.metadata.labels for one in (await store.list(Node)).items) or ({},),
            namespace_labels=tuple(one.metadata.labels for one in (await store.list(Namespace)).items) or ({},),
        )


def _print(plan: Plan, outcome: Outcome) -> None:
    headings = ["POOL", "BLOCKS", "USED", "IN-BLOCKS", "FRAGMENTED", "BORROWED"]
    output.table(headings, [_row(one) for one in outcome.at_end])
    click.echo(
        f"{plan.pods} pods on {plan.nodes} nodes, then {plan.churn:g} a second for {plan.seconds:g} s: "
        f"{outcome.assigns} assigns, {outcome.releases} releases"
    )
    click.echo(
        f"writes an assign {_per(outcome.assign_writes, outcome.assigns)}, "
        f"reads an assign {_per(outcome.assign_reads, outcome.assigns)}, "
        f"writes a release {_per(outcome.release_writes, outcome.releases)}"
    )
    click.echo(
        f"blocks at the peak {outcome.peak_blocks}, of one node at most {outcome.most_blocks_of_a_node}; "
        f"borrowed at the peak {outcome.peak_borrowed:.1%}"
    )
    if outcome.first_refused_s is None:
        click.echo("every pod got an address")
    else:
        click.echo(f"{outcome.refused} pods got no address, the first after {outcome.first_refused_s:.0f} s")


def _row(one: Occupation) -> list[object]:
    share = one.borrowed / one.used if one.used else 0
    most = str(one.blocks_at_most) if one.blocks_at_most < COUNT_MAX else "2^53+"
    return [one.pool, f"{one.blocks}/{most}", one.used, one.in_blocks, f"{_fragmented(one):.0%}", f"{share:.1%}"]


def _fragmented(one: Occupation) -> float:
    """The share of the blocks' addresses that nobody uses."""
    return 1 - one.used / one.in_blocks if one.in_blocks else 0.0


def _per(some: int, each: int) -> str:
    return f"{some / each:.2f}" if each else "-"


def _fields(plan: Plan, outcome: Outcome) -> dict[str, object]:
    return {
        "nodes": plan.nodes,
        "pods": plan.pods,
        "churn": plan.churn,
        "seconds": plan.seconds,
        "seed": plan.seed,
        "pools": [_pool_fields(one) for one in outcome.at_end],
        "assigns": outcome.assigns,
        "releases": outcome.releases,
        "refused": outcome.refused,
        "firstRefusedAfterSeconds": outcome.first_refused_s,
        "writesPerAssign": round(outcome.assign_writes / outcome.assigns, 4) if outcome.assigns else None,
        "readsPerAssign": round(outcome.assign_reads / outcome.assigns, 4) if outcome.assigns else None,
        "writesPerRelease": round(outcome.release_writes / outcome.releases, 4) if outcome.releases else None,
        "peakBlocks": outcome.peak_blocks,
        "peakBorrowedShare": round(outcome.peak_borrowed, 4),
        "mostBlocksOfANode": outcome.most_blocks_of_a_node,
    }


def _pool_fields(one: Occupation) -> dict[str, object]:
    return {
        "name": one.pool,
        "blocks": one.blocks,
        "blocksAtMost": min(one.blocks_at_most, COUNT_MAX),
        "used": one.used,
        "borrowed": one.borrowed,
        "inBlocks": one.in_blocks,
        "fragmentation": round(_fragmented(one), 4),
    }
