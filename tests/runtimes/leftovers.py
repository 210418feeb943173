"""What containers may leave, on the host and in the runtime's machine: nothing, a moment after they are gone."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from datastore.resources.ipblock import IPBlock
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.urls import open_store
from tests.host import Host
from tests.runtimes.machine import Machine, until_empty


@dataclass(frozen=True, slots=True)
class Known:
    """What the datastore knows of pods."""

    owners: Sequence[str]
    """The handle of each address that is owned."""
    endpoints: Sequence[str]
    """The addresses of published endpoints."""


def known(host: Host) -> Known:
    """See `Known`. Read in this process: a tortiectl for each look would take most of a test's time."""

    async def read() -> Known:
        store = await open_store(host.datastore)
        try:
            blocks = (await store.list(IPBlock)).items
            endpoints = (await store.list(WorkloadEndpoint)).items
        finally:
            await store.close()
        return Known(
            sorted(one.handle for block in blocks for one in block.spec.allocations.values()),
            sorted(address for endpoint in endpoints for address in endpoint.spec.addresses),
        )

    return asyncio.run(read())


def settle(machine: Machine) -> None:
    """Wait until nothing is left of any container.

    Raises:
        AssertionError: says what is left.
    """
    until_empty(lambda: _near(machine))
    until_empty(lambda: [*known(machine.host).owners, *known(machine.host).endpoints])


def _near(machine: Machine) -> list[str]:
    host = machine.host
    files = [path for folder in ("attachments", "journal") for path in (host.state / folder).glob("*")]
    files += (host.place / "tombstones").glob("*")
    links = [row["ifname"] for row in host.shown("link") if row["ifname"].startswith("tort")]
    sets = host.namespace.run("ipset", "save").splitlines()
    members = [line for line in sets if line.startswith("add ") and "-nodes " not in line]
    return [*machine.left(), *links, *members, *map(str, files)]
