"""node cleanup: everything of ours off this node; what is others' stays."""

import asyncio
from pathlib import Path

import click

from agent.host.cleanup import Place, cleanup
from agent.host.doing import Doing
from agent.host.wishes import DEFAULT_CONF
from agent.options import DEFAULT_SOCKET
from cni.conflist import PLUGIN_FOLDERS
from ctl.host_options import absolute, as_root, state_option

_folder = click.Path(path_type=Path)


@click.command("cleanup", epilog="Example: tortiectl node cleanup --dry-run")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--force", is_flag=True, help="End an agent that runs here.")
@click.option("--socket", type=_folder, default=DEFAULT_SOCKET, show_default=True, help="The plugin's socket.")
@click.option("--conf-dir", type=_folder, default=DEFAULT_CONF, show_default=True, help="The runtime's conflists.")
@click.option("--bin-dir", type=_folder, default=PLUGIN_FOLDERS[0], show_default=True, help="The runtime's plugins.")
@state_option
@as_root
def cleanup_command(state: Path, dry_run: bool, force: bool, socket: Path, conf_dir: Path, bin_dir: Path) -> None:
    """Remove everything of ours from this node: conflist, plugin, rules, sets, routes, links, files.

    Settings are put back as they were before the agent. It needs no datastore and leaves its objects alone; it doesn't
    run while an agent does.
    """
    doing = Doing(click.echo, dry=dry_run)
    place = Place(state, absolute(socket), absolute(conf_dir), absolute(bin_dir))
    for line in asyncio.run(cleanup(place, doing, force=force)):
        click.echo(line, err=True)
    if not doing.done:
        click.echo("nothing to remove")
