"""Several nodes on one store, with every answer of the store under the test's control."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TypeVar

from datastore.errors import Unavailable, Unknown
from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.value import Metadata, Resource
from datastore.store import Batch, Listing, Revision, Where
from ipam.allocator import Allocator
from ipam.block import Address, Block
from ipam.handles import Handles

R = TypeVar("R", bound=Resource)
T = TypeVar("T")


class Fate(Enum):
    """What becomes of one call."""

    OK = auto()
    REFUSED = auto()
    """Unavailable: certainly not applied."""
    ANSWER_LOST = auto()
    """Applied, and Unknown to the caller."""
    LOST = auto()
    """Unknown to the caller, and never applied."""
    LATE = auto()
    """Unknown to the caller, and applied when the test says."""


@dataclass
class Pending:
    """A call that waits for its fate."""

    name: str
    writes: bool
    fate: "asyncio.Future[Fate]"
    call: Callable[[], Awaitable[object]]


@dataclass
class Gate:
    """Where calls wait, and late writes until they land."""

    waiting: list[Pending] = field(default_factory=list)
    late: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    open: bool = False

    async def pass_through(self, name: str, call: Callable[[], Awaitable[T]], *, writes: bool) -> T:
        if self.open:
            return await call()
        pending = Pending(name, writes, asyncio.get_running_loop().create_future(), call)
        self.waiting.append(pending)
        fate = await pending.fate
        if fate is Fate.REFUSED:
            raise Unavailable(name)
        if fate in (Fate.LOST, Fate.LATE):
            if fate is Fate.LATE:
                self.late.append(call)
            raise Unknown(name)
        result = await call()
        if fate is Fate.ANSWER_LOST:
            raise Unknown(name)
        return result


class GatedStore:
    """A store whose calls each wait at a gate; one for each node, on one inner store."""

    def __init__(self, inner: MemoryStore, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return await self._gate.pass_through("get", lambda: self._inner.get(kind, name, namespace), writes=False)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        return await self._gate.pass_through("list", lambda: self._inner.list(kind, where), writes=False)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        return self._inner.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        return await self._gate.pass_through("create", lambda: self._inner.create(resource), writes=True)

    async def update(self, resource: R) -> R:
        return await self._gate.pass_through("update", lambda: self._inner.update(resource), writes=True)

    async def delete(self, resource: Resource) -> None:
        await self._gate.pass_through("delete", lambda: self._inner.delete(resource), writes=True)

    async def close(self) -> None:
        pass


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


def pool(
    name: str,
    cidr: str,
    block_size: int | None = None,
    *,
    disabled: bool = False,
    mode: str = "Automatic",
    uses: tuple[str, ...] = ("Workload", "Tunnel"),
    nodes: str = "all()",
    namespaces: str = "all()",
    vxlan: str = "Never",
) -> IPPool:
    spec = IPPoolSpec(
        cidr=cidr,
        block_size=block_size,
        disabled=disabled,
        assignment_mode=mode,
        allowed_uses=uses,
        node_selector=nodes,
        namespace_selector=namespaces,
        vxlan_mode=vxlan,
    )
    return IPPool(metadata=Metadata(name=name), spec=spec)


def reservation(*cidrs: str, name: str = "r") -> IPReservation:
    return IPReservation(metadata=Metadata(name=name), spec=IPReservationSpec(reserved_cidrs=cidrs))


class Node:
    """One node's allocator, with its folder of handles."""

    def __init__(self, name: str, store: MemoryStore, folder: Path, clock: Clock, machine: str = "") -> None:
        self.name = name
        self.gate = Gate(open=True)
        gated, machine = GatedStore(store, self.gate), machine or f"machine-{name}"
        self.allocator = Allocator(gated, name, machine, clock=clock, pause=no_pause)
        self.handles = Handles(folder / name)


async def blocks_of(store: MemoryStore) -> list[Block]:
    return [Block.read(record) for record in (await store.list(IPBlock)).items]


async def owners(store: MemoryStore) -> dict[Address, str]:
    """Who owns what, by the store alone."""
    found: dict[Address, str] = {}
    for block in await blocks_of(store):
        for ordinal, allocation in block.record.spec.allocations.items():
            address = block.address_of(int(ordinal))
            if address in found:
                raise AssertionError(f"{address} has two owners: {found[address]} and {allocation.handle}")
            found[address] = allocation.handle
    return found
