"""ipam split: a pool into equal ones, while addresses are given from it."""

import asyncio

import click

from ctl import output
from ctl.location import Choice, cluster_options
from ipam.split import split as work


@click.command(epilog="Example: tortiectl ipam split default-ipv4 4")
@click.argument("pool")
@click.argument("parts", type=int)
@output.form_option
@cluster_options
def split(pool: str, parts: int, form: str, cluster: Choice) -> None:
    """Split POOL into PARTS equal pools, called POOL-0 and so on; blocks and addresses stay as they are.

    Nothing needs to stop. If it was interrupted, do it again. Configurations that ask for POOL by name or CIDR must
    ask for the parts.
    """
    location = cluster.locate()

    async def done() -> tuple[str, ...]:
        async with location.store() as store:
            return await work(store, pool, parts, lambda line: click.echo(line, err=True))

    names = asyncio.run(done())
    if form == "json":
        output.as_json({"pools": list(names)})
    else:
        click.echo(f"{pool} is {', '.join(names)} now")
