"""What must be so, judged by what the store keeps and what runtimes were told: by nothing that ipam says of itself.

After every write to a block
    one owner       no address is owned in two blocks, and no two ready blocks overlap
    arithmetic      every ordinal below `fresh` is either owned or released, once; an unready block has no owners
    kept            what a living pod was told is its own
After every write to a Node
    one way         no two Nodes lead to one address: no block is in both
At the end, when nothing fails any more
    nothing lost    who owns an address is a living pod, or somebody who took it by hand
    nothing stuck   every operation has ended, every block is ready, every journal is empty
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from datastore.errors import Invalid, StoreError
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node
from tests.simulation.server import Write

_BLOCKS = IPBlock.KIND.full_name
_NODES = Node.KIND.full_name


class Violation(Exception):
    """Something that must never be is so."""


class RawAllocation(msgspec.Struct):
    """Of an allocation what judging needs."""

    handle: str
    id: str
    node: str


class RawSpec(msgspec.Struct):
    """A block as it is stored."""

    cidr: str
    node: str
    machine: str = ""
    ready: bool = False
    allocations: dict[str, RawAllocation] = {}
    released: list[tuple[int, float]] = []
    fresh: int = 0


class RawBlock(msgspec.Struct):
    """A block as it is stored."""

    spec: RawSpec


class RawNodeSpec(msgspec.Struct):
    """A Node as it is stored."""

    blocks: list[str] = []


class RawNode(msgspec.Struct):
    """A Node as it is stored."""

    spec: RawNodeSpec


_DECODER = msgspec.json.Decoder(RawBlock)
_NODE_DECODER = msgspec.json.Decoder(RawNode)


@dataclass(frozen=True, slots=True)
class Given:
    """An address that a runtime was told."""

    handle: str
    address: str
    block: str
    ordinal: int


@dataclass
class Judge:
    """Sees every write."""

    violations: list[str] = field(default_factory=list)
    on_violation: Callable[[str], None] = lambda _: None
    blocks: dict[str, tuple[IPv4Network | IPv6Network, RawSpec]] = field(default_factory=dict)
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By address: the block and the handle."""
    nodes: dict[str, list[IPv4Network | IPv6Network]] = field(default_factory=dict)
    """The blocks of each Node."""
    living: dict[str, dict[str, Given]] = field(default_factory=dict)
    """What living pods were told, by block and address."""

    def wrong(self, what: str) -> None:
        """Note a violation."""
        self.violations.append(what)
        self.on_violation(what)

    def on_write(self, write: Write) -> None:
        """Judge a write that was applied."""
        if write.key.kind == _NODES:
            self._judge_node(write.key.name, write.after)
        if write.key.kind != _BLOCKS:
            return
        name = write.key.name
        if name in self.blocks:
            network, old = self.blocks.pop(name)
            for ordinal in old.allocations:
                self.owners.pop(_address(network, ordinal), None)
        if write.after is not None:
            self._learn(name, _DECODER.decode(write.after).spec)
        self._check_living(name, write.by)

    def on_refusal(self, by: str, error: StoreError) -> None:
        """Judge a call that the store refused."""
        if isinstance(error, Invalid):
            self.wrong(f"{by} wrote what no store may keep: {error}")

    def told(self, handle: str, address: str) -> None:
        """A runtime has been told that a pod has an address."""
        block, owner = self.owners.get(address, ("", ""))
        if owner != handle:
            self.wrong(f"{handle} was told {address}, which is {owner or 'nobody'}'s")
            return
        ordinal = int(ip_address(address)) - int(self.blocks[block][0].network_address)
        self.living.setdefault(block, {})[address] = Given(handle, address, block, ordinal)

    def untold(self, handle: str) -> None:
        """A runtime has begun to remove a pod, or it died: nothing keeps its addresses any more."""
        for given in self.living.values():
            for address in [address for address, one in given.items() if one.handle == handle]:
                del given[address]

    def of(self, handle: str) -> list[str]:
        """What a living pod was told."""
        return sorted(a for given in self.living.values() for a, one in given.items() if one.handle == handle)

    def owned(self) -> Mapping[str, tuple[str, str]]:
        """Every address that has an owner: the block and the handle."""
        return self.owners

    def _learn(self, name: str, spec: RawSpec) -> None:
        network = ip_network(spec.cidr)
        taken = [int(text) for text in spec.allocations] + [ordinal for ordinal, _ in spec.released]
        if sorted(taken) != list(range(spec.fresh)) or spec.fresh > network.num_addresses:
            self.wrong(f"{name}: fresh is {spec.fresh}, owned or released are {sorted(taken)}")
        if spec.allocations and not spec.ready:
            self.wrong(f"{name} isn't ready and has owners")
        for other, (there, its) in self.blocks.items():
            if spec.ready and its.ready and there.version == network.version and there.overlaps(network):
                self.wrong(f"{name} and {other} overlap, and both are ready")
        self.blocks[name] = network, spec
        for ordinal, allocation in spec.allocations.items():
            address = _address(network, ordinal)
            block, handle = self.owners.get(address, ("", ""))
            if handle:
                self.wrong(f"{address} is {handle}'s in {block} and {allocation.handle}'s in {name}")
            self.owners[address] = name, allocation.handle

    def _judge_node(self, name: str, body: bytes | None) -> None:
        self.nodes.pop(name, None)
        if body is None:
            return
        networks = [ip_network(text) for text in _NODE_DECODER.decode(body).spec.blocks]
        for other, its in self.nodes.items():
            for network in networks:
                if any(network.version == one.version and network.overlaps(one) for one in its):
                    self.wrong(f"{network} is in Node {name} and in Node {other}")
        self.nodes[name] = networks

    def _check_living(self, name: str, by: str) -> None:
        for given in self.living.get(name, {}).values():
            _, owner = self.owners.get(given.address, ("", ""))
            if owner != given.handle:
                self.wrong(f"{by} took {given.address} from {given.handle}, which lives: it is {owner or 'nobody'}'s")


def _address(network: IPv4Network | IPv6Network, ordinal: str) -> str:
    return str(network.network_address + int(ordinal))
