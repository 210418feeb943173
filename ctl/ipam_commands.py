"""ipam: who has which address; taking one by hand and giving it back, by way of a node's agent."""

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from ctl import output
from ctl.failures import UNREACHABLE, Failure
from ctl.location import Choice, cluster_options
from datastore.resources.names import check_pod_name
from ipam.rpc.client import Allocation, IpamClient, connect

DEFAULT_SOCKET = Path("/var/lib/tortie/ipam.sock")
_MANUAL = "manual/"
"""Handles of addresses taken by hand begin so; those of attachments have no slash."""

_node = click.option(
    "--node", default="", help="The node whose agent is asked (default: any of the lab's, or this one)."
)


@click.command("list")
@click.option("--handle", default="", help="Only this handle's.")
@click.option("--of-node", default="", help="Only this node's.")
@output.form_option
@_node
@cluster_options
def list_(handle: str, of_node: str, form: str, node: str, cluster: Choice) -> None:
    """Addresses and their owners."""

    async def ask() -> list[Allocation]:
        async with connect(_socket(cluster, node)) as client:
            return await client.list(of_node, handle)

    _print(asyncio.run(ask()), form)


@click.command()
@click.argument("name")
@click.option("--ipv4/--no-ipv4", default=True, show_default=True)
@click.option("--ipv6/--no-ipv6", default=False, show_default=True)
@click.option("--pool", "pools", multiple=True, help="A pool's name or CIDR; may be given several times.")
@output.form_option
@_node
@cluster_options
def assign(name: str, ipv4: bool, ipv6: bool, pools: tuple[str, ...], form: str, node: str, cluster: Choice) -> None:
    """Take an address by hand, under a NAME; asking again gives the same one."""
    handle = _handle(name)

    async def ask() -> list[Allocation]:
        async with connect(_socket(cluster, node)) as client:
            return await client.assign(handle, ipv4=ipv4, ipv6=ipv6, pools=pools)

    _print(asyncio.run(ask()), form)


def release_by_agent(what: str, form: str, node: str, cluster: Choice) -> None:
    """Free what was taken by hand: a NAME, or one ADDRESS.

    Raises:
        Failure: nothing of the kind was taken, or no agent answers.
    """

    async def ask() -> list[Allocation]:
        async with connect(_socket(cluster, node)) as client:
            return await _release(client, what)

    freed = asyncio.run(ask())
    if not freed:
        raise Failure(f"{what} has no address taken by hand", 1, "list them: tortiectl ipam list")
    _print(freed, form)


async def _release(client: IpamClient, what: str) -> list[Allocation]:
    held = [one for one in await client.list() if what in (one.address, one.handle, one.handle.removeprefix(_MANUAL))]
    freed: list[Allocation] = []
    for one in held:
        freed += await client.release(one)
    return freed


def _socket(cluster: Choice, node: str) -> Path:
    """The socket of a node's agent: in a lab any running node's unless one is named; on a host that in --state."""
    folder = cluster.folder()
    state = folder.read()
    if state is None:
        own = folder.path / DEFAULT_SOCKET.name
        return own if own.exists() else DEFAULT_SOCKET
    if node:
        return folder.ipam(state.node(node).name)
    for one in state.nodes:
        if one.agent is not None and one.agent.process.alive:
            return folder.ipam(one.name)
    raise Failure(f"no agent runs in the lab at {folder.path}", UNREACHABLE, "tortiectl lab status")


def _handle(name: str) -> str:
    check_pod_name(name.removeprefix(_MANUAL), "NAME")
    return name if name.startswith(_MANUAL) else _MANUAL + name


def _print(found: list[Allocation], form: str) -> None:
    if form == "json":
        output.as_json({"items": [asdict(one) for one in found]})
        return
    rows = [[one.address, one.handle, _pod(one), one.node, output.when(one.since)] for one in found]
    output.table(["ADDRESS", "HANDLE", "POD", "NODE", "SINCE"], rows)


def _pod(one: Allocation) -> str:
    return f"{one.namespace}/{one.pod}" if one.pod else "-"
