"""host init: this host made a node."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from agent.host import install
from agent.host.doing import Doing
from agent.host.wishes import Asked
from agent.options import DEFAULT_SOCKET
from ctl.host_options import as_root, state_option


@click.command("init")
@click.option("--pool", "pools", multiple=True, metavar="CIDR", help="Made if it isn't there; its family is enabled.")
@click.option("--datastore", envvar="TORTIE_DATASTORE", metavar="URL", help="The cluster's (default: a file here).")
@click.option("--node", help="This node's name (default: the host's).")
@click.option("--node-ip", "node_ips", multiple=True, metavar="IP", help="Underlay address, one per family.")
@click.option("--machine-id", "machine", help="Identity of this machine (default: /etc/machine-id).")
@click.option("--chain", multiple=True, metavar="PLUGIN", help="Chained after tortie, such as portmap; in order.")
@click.option("--no-chain", is_flag=True, help="Nothing is chained any more.")
@click.option("--bin-dir", metavar="DIR", help="The runtime's plugins (default: /opt/cni/bin).")
@click.option("--conf-dir", metavar="DIR", help="The runtime's networks (default: /etc/cni/net.d).")
@click.option("--unit-dir", metavar="DIR", help="systemd's units (default: /etc/systemd/system).")
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@state_option
@as_root
def init(state: Path, dry_run: bool, no_chain: bool, chain: tuple[str, ...], **options: object) -> None:
    """Make this host a node: pools, plugin, the agent's unit, and at last the conflist.

    An option that isn't given stays as it was at the last init.
    """
    if chain and no_chain:
        raise click.UsageError("--chain and --no-chain exclude each other")
    said = {
        name: os.path.abspath(found) if isinstance(found, str) and found and name.endswith("_dir") else found
        for name, found in options.items()
    }
    asked = msgspec.convert({**said, "chain": chain if chain or no_chain else None}, Asked)
    doing = Doing(click.echo, dry_run)
    advice = asyncio.run(install.init(state, DEFAULT_SOCKET.parent, asked, doing))
    if not doing.done:
        click.echo("nothing to change")
    for line in advice:
        click.echo(f"note: {line}", err=True)
