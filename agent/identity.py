"""This node's Node object: its name claimed with a machine's identity, and what other nodes make routes of.

A name is claimed by creating the Node. Another machine that comes with the same name is refused until the Node is
deleted: two agents that both believed in one name would take each other's blocks for their own.

Blocks and borrowed addresses follow the allocator: a block is in the Node after it is claimed and before anybody else
needs to reach it, and out of it before it is given back.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from datastore.errors import Conflict, NotFound, StoreError, Unknown
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import NO_UNKNOWN, Metadata, UnknownFields
from datastore.store import Store
from ipam import identity
from ipam.allocator import Allocator
from ipam.block import Address, Network
from ipam.identity import NameTaken

log = logging.getLogger(__name__)

_TRIES = 12
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0


class NodeObject:
    """Claims and keeps the Node of one agent."""

    def __init__(
        self,
        store: Store,
        name: str,
        machine: str,
        addresses: tuple[Address, ...],
        allocator: Allocator,
        pod_cidrs: tuple[Network, ...] = (),
        labels: Mapping[str, str] | None = None,
        metadata: UnknownFields = NO_UNKNOWN,
    ) -> None:
        self._store = store
        self._name = name
        self._machine = machine
        self._addresses = tuple(str(address) for address in addresses)
        self._allocator = allocator
        self._pod_cidrs = tuple(str(network) for network in pod_cidrs)
        self._labels = dict(labels or {})
        self._metadata = metadata
        """What else a new Node's metadata is to hold."""
        self.tunnel_addresses: Callable[[], tuple[Address, ...] | None] = lambda: None
        """The ends of this node's tunnels; None: not seen to yet, and the Node tells what it told."""
        self._node: Node | None = None
        """As last written."""
        self.created = asyncio.Event()
        """Set when the Node wasn't there and was created: what pods have may have been taken back meanwhile."""
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()

    async def claim(self) -> None:
        """Make the name ours, or find that it is.

        Raises:
            NameTaken: it is another machine's.
            StoreError: the store can't be used.
        """
        self._node, created = await identity.claim(self._store, self._wanted(None))
        if created:
            self.created.set()

    def moved(self, addresses: tuple[Address, ...]) -> None:
        """The node has these addresses now."""
        told = tuple(str(address) for address in addresses)
        if told != self._addresses:
            log.info("node %s moved from %s to %s", self._name, ", ".join(self._addresses), ", ".join(told))
            self._addresses = told
            self._changed.set()

    def soon(self) -> None:
        """Something changed that the Node tells."""
        self._changed.set()

    def lost(self) -> None:
        """Somebody deleted the Node, or has it now: it is claimed again, for peers have no routes to this node."""
        self._node = None
        self._changed.set()

    async def run(self) -> None:
        """Write what changes, without end."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.write()
                pause_s = _FIRST_PAUSE_S
            except StoreError as error:
                log.warning("Node %s can't be written, trying again in %.1f s: %s", self._name, pause_s, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                self._changed.set()

    async def touch(self) -> None:
        """Write the Node as it is, to know that the store can be written.

        Raises:
            StoreError: it can't.
        """
        async with self._writing:
            if self._node is None:
                return
            try:
                self._node = await self._store.update(self._node)
            except (Conflict, NotFound, Unknown):
                self._changed.set()  # somebody else's business; `run` looks after it

    async def write(self) -> None:
        """Return once the Node tells what is so now.

        Raises:
            StoreError: the store can't be used.
        """
        async with self._writing:
            if self._node is None:
                await self.claim()
            for _ in range(_TRIES):
                wanted = self._wanted(self._node)
                if self._node is not None and _same(wanted, self._node):
                    return
                try:
                    self._node = await self._store.update(wanted)
                except NotFound:
                    await self.claim()
                except (Conflict, Unknown):
                    self._node = await self._read_again()
        raise Conflict(f"Node {self._name}", "")

    async def _read_again(self) -> Node:
        """The Node as it is now, which may have become another machine's while this one was cut off.

        Raises:
            NameTaken: it has.
        """
        found = await self._store.get(Node, self._name)
        if found.spec.machine != self._machine:
            raise NameTaken(self._name, found.spec.machine)
        return found

    def _wanted(self, known: Node | None) -> Node:
        changes = {
            "machine": self._machine,
            "addresses": self._addresses,
            "blocks": tuple(map(str, sorted(self._allocator.networks(), key=_order))),
            "pod_cidrs": self._pod_cidrs,
            "borrowed": tuple(map(str, sorted(self._allocator.borrowed(), key=_order))),
        }
        ends = self.tunnel_addresses()
        if ends is not None:
            changes["tunnel_addresses"] = tuple(map(str, ends))
        if known is None:
            spec = msgspec.structs.replace(NodeSpec(machine=self._machine), **changes)
            metadata = Metadata(name=self._name, labels=self._labels, unknown=self._metadata)
            return Node(metadata=metadata, spec=spec)
        labels = {**known.metadata.labels, **self._labels}
        metadata = msgspec.structs.replace(known.metadata, labels=labels)
        return msgspec.structs.replace(known, metadata=metadata, spec=msgspec.structs.replace(known.spec, **changes))


def _same(one: Node, other: Node) -> bool:
    return one.spec == other.spec and one.metadata.labels == other.metadata.labels


def _order(value: object) -> tuple[int, str]:
    text = str(value)
    return (6 if ":" in text else 4, text)
