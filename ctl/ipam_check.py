"""ipam check: everything that is wrong with who has which address, found without a lock while pods start and end."""

import asyncio
from collections.abc import Sequence

import click

from ctl import output
from ctl.location import Choice, cluster_options
from ipam.findings import Finding
from ipam.survey import found_in

_WRONG = 1
_SHOWN = 100
"""Rows of the table; more can be read as JSON."""


@click.command(epilog="Example: tortiectl ipam check --datastore sqlite:///var/lib/tortie/tortie.db -o json")
@output.form_option
@cluster_options
def check(form: str, cluster: Choice) -> int:
    """Look for addresses with two owners or none, leaks, and blocks, pools and Nodes that don't agree; exit 1 if any.

    Reads the datastore alone, with no lock: agents may be down, pods may start. What is found is looked at again for
    some seconds, and what was only under way isn't told. Warnings alone don't make it exit 1.
    """

    async def look() -> list[Finding]:
        async with cluster.locate().store() as store:
            return await found_in(store)

    found = asyncio.run(look())
    wrong = sum(not one.warning for one in found)
    if form == "json":
        counts = {"errors": wrong, "warnings": len(found) - wrong}
        output.as_json({"items": [_fields(one) for one in found], **counts})
    else:
        _table(found)
    return _WRONG if wrong else 0


def _table(found: Sequence[Finding]) -> None:
    if not found:
        click.echo("nothing is wrong")
    for one in found[:_SHOWN]:
        click.echo(f"{'warning: ' if one.warning else ''}{one.fault}: {one.what}; {one.remedy}")
    if len(found) > _SHOWN:
        click.echo(f"and {len(found) - _SHOWN} more: -o json tells all", err=True)


def _fields(one: Finding) -> dict[str, str]:
    return {
        "kind": one.fault.value,
        "severity": "warning" if one.warning else "error",
        "subject": one.subject,
        "block": one.block,
        "message": one.what,
        "remedy": one.remedy,
    }
