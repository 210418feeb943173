"""datastore migrate: a cluster moved to another datastore while its pods run."""

import asyncio
from contextlib import AsyncExitStack

import click

from ctl import output
from ctl.failures import Failure
from ctl.location import Location
from datastore.transfer import migrate as moving
from datastore.transfer.copying import Side
from datastore.transfer.migrate import Moved


@click.command(
    epilog="Example: tortiectl datastore migrate --from sqlite:///var/lib/tortie/tortie.db --to postgresql://tortie@db/tortie"
)
@click.option("--from", "source", required=True, metavar="URL", help="The datastore that is left.")
@click.option("--to", "target", metavar="URL", help="Where to, as the nodes' agents are to reach it; empty, or made.")
@click.option("--abort", is_flag=True, help="Give up a migration that hasn't ended: everything thaws.")
@output.form_option
def migrate(source: str, target: str | None, abort: bool, form: str) -> int:
    """Move a cluster to another datastore while its pods run; agents follow by themselves.

    Pods that start meanwhile wait: for some seconds no address is given. Run it again if it was interrupted.
    """
    if abort == (target is not None):
        raise click.UsageError("give either --to URL or --abort")
    if target is None:
        return asyncio.run(_abort(source, form))
    moved = asyncio.run(_migrate(source, target))
    if form == "json":
        output.as_json({"id": moved.id, "again": moved.again, "differing": list(moved.differing)})
    else:
        click.echo(f"migration {moved.id}: {'had been done' if moved.again else 'done'}; agents go there by themselves")
        for key in moved.differing:
            click.echo(
                f"{key}: isn't alike in the two: the new one counts, look whether something was written too late"
            )
    return 0


async def _migrate(source: str, target: str) -> Moved:
    Location(source, None).check_there()
    async with AsyncExitStack() as stack:
        left = await stack.enter_async_context(Location(source, None).store())
        entered = await stack.enter_async_context(Location(target, None).store(create=True))
        return await moving.migrate(Side(left, source), Side(entered, target), _tell)


async def _abort(source: str, form: str) -> int:
    Location(source, None).check_there()
    async with Location(source, None).store() as store:
        done = await moving.abort(Side(store, source), _tell)
    if form == "json":
        output.as_json({"aborted": done})
    elif not done:
        raise Failure("no migration is under way", 1)
    return 0


def _tell(line: str) -> None:
    click.echo(line, err=True)
