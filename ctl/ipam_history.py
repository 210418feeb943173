"""ipam history: who had an address, or which addresses a pod had, and when."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_network

import click

from ctl import output
from ctl.failures import Failure
from ctl.lab_commands import named
from ctl.location import Choice, cluster_options
from datastore.resources.ipblock import IPBlock, cell_of
from datastore.resources.names import parse_address
from datastore.store import Store, Where
from ipam import history as past
from ipam.history import Tenure

_NO = 1


@click.command(epilog="Example: tortiectl ipam history --ip 10.65.0.7")
@click.option("--ip", "address", metavar="ADDRESS", help="Who had this address.")
@click.option("--pod", metavar="NS/NAME", help="Which addresses a pod of this name had.")
@click.option("--handle", metavar="HANDLE", help="The same of what was no pod's, such as manual/printer.")
@output.form_option
@cluster_options
def history(address: str | None, pod: str | None, handle: str | None, form: str, cluster: Choice) -> int:
    """Who had an address and when, oldest first; exit 1 if nothing is known.

    Each block remembers its last 64 owners, and is forgotten with them when it is given back.
    """
    if sum(one is not None for one in (address, pod, handle)) != 1:
        raise click.UsageError("give one of --ip, --pod and --handle")
    location = cluster.locate()

    async def ask() -> tuple[Tenure, ...]:
        async with location.store() as store:
            return await _asked(store, address, pod, handle)

    found = asyncio.run(ask())
    if form == "json":
        output.as_json({"items": [_fields(one) for one in found]})
    elif found:
        output.table(["ADDRESS", "OWNER", "NODE", "FROM", "UNTIL"], _rows(found))
    else:
        raise Failure(f"nothing is known of {address or pod or handle}", _NO)
    return 0 if found else _NO


async def _asked(store: Store, address: str | None, pod: str | None, handle: str | None) -> tuple[Tenure, ...]:
    if address is not None:
        wanted = parse_address(address, "--ip")
        cell = Where("cell", str(cell_of(ip_network(wanted))))
        return past.of_address((await store.list(IPBlock, cell)).items, wanted)
    blocks = (await store.list(IPBlock)).items
    return past.of_pod(blocks, *named(pod)) if pod is not None else past.of_handle(blocks, handle or "")


def _rows(found: Sequence[Tenure]) -> list[list[object]]:
    return [[one.address, _owner(one), one.node, output.when(one.since), _until(one)] for one in found]


def _until(one: Tenure) -> str:
    return "now" if one.until is None else output.when(one.until)


def _owner(one: Tenure) -> str:
    return f"{one.namespace}/{one.pod}" if one.pod else one.handle


def _fields(one: Tenure) -> dict[str, object]:
    return {
        "address": str(one.address),
        "handle": one.handle,
        "namespace": one.namespace,
        "pod": one.pod,
        "node": one.node,
        "from": output.when(one.since),
        "until": None if one.until is None else output.when(one.until),
        "block": one.block,
    }
