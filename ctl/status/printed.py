"""A look as people and as programs read it."""

from collections.abc import Sequence
from typing import Any

import click

from ctl import output
from ctl.status.remarks import Remark
from ctl.status.seen import Seen, SeenNode


def show(seen: Seen, remarks: Sequence[Remark]) -> None:
    """Tables, and a line for each remark."""
    click.echo(f"datastore    {seen.datastore}")
    click.echo(f"controller   {seen.leader + ' leads' if seen.leader else 'nobody leads'}")
    click.echo(f"policies     {_policies(seen)}")
    if seen.nodes:
        click.echo()
        rows = [[one.name, _word(one), ",".join(one.addresses) or "-", one.blocks, one.pods] for one in seen.nodes]
        output.table(["NODE", "STATUS", "ADDRESSES", "BLOCKS", "PODS"], rows)
    if seen.pools:
        click.echo()
        rows = [
            [
                one.name + (" (disabled)" if one.disabled else ""),
                one.cidr,
                one.status.used,
                one.status.free,
                f"{one.used_percent}%",
                one.status.conflicts_with or "-",
            ]
            for one in seen.pools
        ]
        output.table(["POOL", "CIDR", "USED", "FREE", "USED%", "CONFLICTS"], rows)
    click.echo()
    for note in seen.notes:
        click.echo(f"note: {note}")
    for one in remarks:
        click.echo(line(one))
    if not any(one.wrong for one in remarks):
        click.echo("all is well")


def line(remark: Remark) -> str:
    """One remark, with what to do next."""
    return f"{'wrong' if remark.wrong else 'warning'}: {remark.what}" + (
        f"; next: {remark.next}" if remark.next else ""
    )


def document(seen: Seen, remarks: Sequence[Remark]) -> dict[str, Any]:
    """The same as one JSON object."""
    return {
        "apiVersion": "tortie.dev/v1",
        "kind": "ClusterStatus",
        "well": not any(one.wrong for one in remarks),
        "datastore": seen.datastore,
        "controller": {"leader": seen.leader, "silentSeconds": round(seen.leader_silent_s, 1)},
        "policies": {"count": seen.policies, "agentsAsked": len(seen.agents), "agentsProgrammed": seen.programmed},
        "nodes": [_node(one) for one in seen.nodes],
        "pools": [
            {
                "name": one.name,
                "cidr": one.cidr,
                "disabled": one.disabled,
                "used": one.status.used,
                "free": one.status.free,
                "blocks": one.status.blocks,
                "conflictsWith": one.status.conflicts_with,
                "fault": one.fault,
            }
            for one in seen.pools
        ],
        "warnings": [
            {"severity": "error" if one.wrong else "warning", "message": one.what, "next": one.next} for one in remarks
        ],
        "notes": list(seen.notes),
    }


def _node(one: SeenNode) -> dict[str, Any]:
    agent, machine = one.agent, one.machine
    said = None
    if agent is not None:
        said = {"ready": agent.ready, "reason": agent.reason, "behind": list(agent.behind)}
        said["warnings"] = list(agent.warnings)
    there = (
        {"ready": machine.ready, "reason": machine.reason, "networkUnavailable": machine.no_network}
        if machine is not None
        else None
    )
    return {
        "name": one.name,
        "status": _word(one),
        "addresses": list(one.addresses),
        "blocks": one.blocks,
        "pods": one.pods,
        "agent": said,
        "kubernetes": there,
    }


def _word(one: SeenNode) -> str:
    if one.machine is not None and not one.machine.ready:
        return "NotReady"
    if one.machine is not None and one.machine.no_network:
        return "NetworkUnavailable"
    if one.agent is not None and not one.agent.ready:
        return "agent not ready"
    if one.agent is not None and one.agent.behind:
        return "behind"
    if not one.known:
        return "no agent"
    return "ready" if one.agent is not None else "known"


def _policies(seen: Seen) -> str:
    if not seen.agents:
        return f"{seen.policies}; no agent can be asked from here whether it has them"
    return f"{seen.policies}, programmed on {seen.programmed} of {len(seen.agents)} nodes"
