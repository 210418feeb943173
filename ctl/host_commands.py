"""host: this host made a node, made as it was before, and looked over for what nobody needs."""

import asyncio
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.host import install, manifest, uninstall
from agent.host.doing import Doing
from agent.host.wishes import Asked, default_datastore, merged
from agent.inventory import Place, left_at
from agent.leftovers import Leftover
from agent.options import DEFAULT_SOCKET, DEFAULT_STATE
from ctl import output
from ctl.failures import FORBIDDEN, Failure
from ctl.location import Location
from lab.holder import enter
from lab.state import Folder

R = TypeVar("R")
_LEFT = 1

_state = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=DEFAULT_STATE,
    show_default=True,
    help="The agent's folder.",
)


def as_root(command: Callable[..., R]) -> Callable[..., R]:
    """What needs root says so before it begins, and files that can't be written are told in one line."""

    @functools.wraps(command)
    def checked(*args: object, **kwargs: object) -> R:
        if os.geteuid() != 0:
            raise Failure("this needs root", FORBIDDEN, "sudo")
        try:
            return command(*args, **kwargs)
        except OSError as error:
            status = FORBIDDEN if isinstance(error, PermissionError) else 1
            raise Failure(f"{error.filename or 'a file'}: {error.strerror}", status) from error

    return checked


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
@_state
@as_root
def init_(state: Path, dry_run: bool, no_chain: bool, chain: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Make this host a node: pools, plugin, the agent's unit, and at last the conflist.

    An option that isn't given stays as it was at the last init.
    """
    if chain and no_chain:
        raise click.UsageError("--chain and --no-chain exclude each other")
    said = {name: os.path.abspath(text) if text and name.endswith("_dir") else text for name, text in options.items()}
    asked = Asked(chain=chain if chain or no_chain else None, **said)
    doing = Doing(click.echo, dry_run)
    advice = asyncio.run(install.init(_absolute(state), DEFAULT_SOCKET.parent, asked, doing))
    if not doing.done:
        click.echo("nothing to change")
    for line in advice:
        click.echo(f"note: {line}", err=True)


@click.command("remove")
@click.option("--force", is_flag=True, help="Detach pods; go on without a datastore that can't be used.")
@click.option("--purge", is_flag=True, help="Remove the datastore's file that init made, whatever is in it.")
@_state
@as_root
def remove_(state: Path, force: bool, purge: bool) -> None:
    """Make this host as it was before init."""
    if not asyncio.run(uninstall.remove(_absolute(state), DEFAULT_SOCKET, click.echo, force=force, purge=purge)):
        click.echo(f"nothing to remove: host init made nothing at {state}")


@click.command("check")
@click.option("--datastore", envvar="TORTIE_DATASTORE", metavar="URL", help="The cluster's (default: as at init).")
@click.option("--node", help="This node's name (default: as at init, else the host's).")
@click.option("--socket", type=click.Path(path_type=Path), default=DEFAULT_SOCKET, help="The plugin's socket.")
@click.option("--lab", type=click.Path(path_type=Path), envvar="TORTIE_STATE", help="Look at a lab's nodes instead.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table")
@_state
def check_(state: Path, datastore: str | None, node: str | None, socket: Path, lab: Path | None, form: str) -> int:
    """What no pod needs: links, routes, set members, files, addresses, endpoints; exit 1 if there is something.

    It asks kernel, files and datastore itself, whether an agent runs or not.
    """
    if lab is not None:
        found = _in_lab(Folder(_absolute(lab)), node)
    else:
        found = [{"node": name, **_fields(one)} for name, one in _here(_absolute(state), datastore, node, socket)]
    if form == "json":
        output.as_json({"items": found})
    elif not found:
        click.echo("nothing left")
    for one in found if form != "json" else ():
        where = f"{one['node']}: " if lab is not None else ""
        click.echo(f"{where}{one['kind']} {one['name']}: {one['reason']}")
    return _LEFT if found else 0


@as_root
def _here(state: Path, datastore: str | None, node: str | None, socket: Path) -> list[tuple[str, Leftover]]:
    made = manifest.read(state)
    wishes = merged(Asked(node=node, datastore=datastore), made.wishes if made is not None else None, state)

    async def ask() -> list[Leftover]:
        async with Location(wishes.datastore or default_datastore(state), None).store() as store:
            return await left_at(Place(wishes.node, state, _absolute(socket)), store)

    return [(wishes.node, one) for one in asyncio.run(ask())]


def _in_lab(folder: Folder, wanted: str | None) -> list[dict[str, str]]:
    """The same command, run inside each node."""
    lab = folder.running()
    program = str(Path(sys.executable).with_name("tortiectl"))
    found: list[dict[str, str]] = []
    for node in [lab.node(wanted)] if wanted else lab.nodes:
        place = ("--state", str(folder.of_node(node.name)), "--datastore", folder.datastore, "--node", node.name)
        command = (*enter(node.keeper, rootless=lab.rootless), program, "host", "check", "-o", "json", *place)
        found += _asked(command)
    return found


def _asked(command: Sequence[str]) -> list[dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORTIE_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in (0, _LEFT) or not done.stdout:
        raise Failure(done.stderr.strip().removeprefix("tortiectl: ") or "no answer", done.returncode)
    return list(json.loads(done.stdout)["items"])


def _fields(one: Leftover) -> dict[str, str]:
    return {"kind": one.kind, "name": one.name, "reason": one.reason}


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
