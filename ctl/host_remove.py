"""host remove: this host made as it was before init."""

import asyncio
from pathlib import Path

import click

from agent.host import uninstall
from agent.options import DEFAULT_SOCKET
from ctl.host_options import as_root, state_option


@click.command("remove")
@click.option("--force", is_flag=True, help="Detach pods; go on without a datastore that can't be used.")
@click.option("--purge", is_flag=True, help="Remove the datastore's file that init made, whatever is in it.")
@state_option
@as_root
def remove(state: Path, force: bool, purge: bool) -> None:
    """Make this host as it was before init."""
    if not asyncio.run(uninstall.remove(state, DEFAULT_SOCKET, click.echo, force=force, purge=purge)):
        click.echo(f"nothing to remove: host init made nothing at {state}")
