"""host check: a node, or each of a lab's, looked over for what no pod needs."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from agent.host import manifest
from agent.host.wishes import Asked, merged
from agent.inventory import Place, left_at
from agent.leftovers import Leftover
from agent.options import DEFAULT_SOCKET
from ctl import output
from ctl.failures import Failure
from ctl.host_options import absolute, as_root, state_option
from ctl.location import Location
from lab.holder import enter
from lab.state import Folder, default_folder

_LEFT = 1


@click.command("check")
@click.option("--datastore", envvar="TORTIE_DATASTORE", metavar="URL", help="The cluster's (default: as at init).")
@click.option("--node", help="This node's name (default: as at init, else the host's).")
@click.option("--socket", type=click.Path(path_type=Path), default=DEFAULT_SOCKET, help="The plugin's socket.")
@click.option("--lab", metavar="[DIR]", is_flag=False, flag_value="", help="Look at a lab's nodes instead.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table")
@state_option
def check(state: Path, datastore: str | None, node: str | None, socket: Path, lab: str | None, form: str) -> int:
    """What no pod needs: links, routes, set members, files, addresses, endpoints; exit 1 if there is something.

    It asks kernel, files and datastore itself, whether an agent runs or not.
    """
    if lab is not None:
        found = _in_lab(_lab_folder(lab), node)
    else:
        found = [{"node": name, **_fields(one)} for name, one in _here(state, datastore, node, socket)]
    if form == "json":
        output.as_json({"items": found})
    elif not found:
        click.echo("nothing left")
    for one in found if form != "json" else ():
        where = f"{one['node']}: " if lab is not None else ""
        click.echo(f"{where}{one['kind']} {one['name']}: {one['reason']}")
    return _LEFT if found else 0


def _lab_folder(text: str) -> Folder:
    """The lab meant, as the `lab` commands find it."""
    said = text or os.environ.get("TORTIE_STATE", "")
    return Folder(absolute(Path(said))) if said else Folder(default_folder())


@as_root
def _here(state: Path, datastore: str | None, node: str | None, socket: Path) -> list[tuple[str, Leftover]]:
    made = manifest.read(state)
    wishes = merged(Asked(node=node, datastore=datastore), made.wishes if made is not None else None, state)

    async def ask() -> list[Leftover]:
        async with Location(wishes.datastore, None).store() as store:
            return await left_at(Place(wishes.node, state, absolute(socket)), store)

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
