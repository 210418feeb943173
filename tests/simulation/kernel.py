"""A node's kernel as ADD and DEL meet it: links that are there or gone. Modelled; the real one has other tests.

The classes stand in for `cni.links.HostLinks`, `cni.reaper.Reaper` and `cni.flows.Flows`, whose waits are turned into
virtual time.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import cast

from cni.flows import Flows
from cni.links import HostLinks, Network, NewPair, Pair, Taken
from cni.reaper import Reaper
from ipam.block import Address
from kernel.batch import NetlinkSocket
from kernel.links import Link


@dataclass
class Kernel:
    """What a reboot takes, and nothing else does."""

    machine: str
    boot: int = 1
    links: dict[str, bool] = field(default_factory=dict)
    """Host ends by name: whether they are up."""
    namespaces: dict[str, None] = field(default_factory=dict)
    """Pods' network namespaces, by path."""
    routes: dict[Address, str] = field(default_factory=dict)
    """Host routes: from address to host end."""
    _indexes: dict[int, str] = field(default_factory=dict)

    @property
    def boot_id(self) -> str:
        """Of this boot."""
        return f"{self.machine}-{self.boot}"

    def add(self, name: str) -> int:
        """A link that is up; gives its index."""
        self.links[name] = True
        index = len(self._indexes) + 1
        self._indexes[index] = name
        return index

    def route(self, address: Address, index: int) -> None:
        """A host route to a link."""
        if self._indexes[index] in self.links:
            self.routes[address] = self._indexes[index]

    def reboot(self) -> None:
        """Everything gone."""
        self.boot += 1
        self.links.clear()
        self.namespaces.clear()
        self.routes.clear()

    def remove(self, name: str) -> None:
        """A link goes, with its routes."""
        self.links.pop(name, None)
        for address in [address for address, link in self.routes.items() if link == name]:
            del self.routes[address]


class SimulatedLinks(HostLinks):
    """Host ends of one node; `check` raises in a process that has died."""

    def __init__(self, kernel: Kernel, check: Callable[[], None], random: Random) -> None:
        self._kernel = kernel
        self._check = check
        self._random = random

    def close(self) -> None:
        """Nothing to end."""

    async def create(self, wanted: NewPair, inside: NetlinkSocket) -> Pair:
        """See `HostLinks.create`."""
        self._check()
        if wanted.host_interface in self._kernel.links:
            raise Taken(cast("Link", object()))
        index = self._kernel.add(wanted.host_interface)
        await asyncio.sleep(self._random.expovariate(1 / 0.003))
        return Pair(index, index, b"\x02\0\0\0\0\1")

    def connect(
        self, pair: Pair, addresses: tuple[Address, ...], inside: NetlinkSocket, routes: tuple[Network, ...] = ()
    ) -> None:
        """See `HostLinks.connect`."""
        self._check()
        for address in addresses:
            self._kernel.route(address, pair.host_index)

    def retire(self, name: str) -> None:
        """See `HostLinks.retire`."""
        self._check()
        self._kernel.remove(name)

    def find(self, name: str) -> Link | None:
        """See `HostLinks.find`."""
        up = self._kernel.links.get(name)
        return None if up is None else Link(index=1, name=name, up=up)


class SimulatedReaper(Reaper):
    """Retired links are gone at once here."""

    def __init__(self) -> None:
        pass

    def soon(self) -> None:
        """Nothing is left to be done."""

    async def reaped(self) -> None:
        """See `Reaper.reaped`."""
        await asyncio.sleep(0)


class SimulatedFlows(Flows):
    """No flows."""

    def __init__(self) -> None:
        pass

    def forget_soon(self, addresses: Iterable[Address]) -> None:
        """Nothing is left to be done."""

    async def forgotten(self, addresses: Iterable[Address]) -> None:
        """See `Flows.forgotten`."""
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Nothing to wait for."""
