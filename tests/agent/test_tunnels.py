"""The ends of a node's tunnels: had where a pool needs one, kept over restarts, given back when none does."""

from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.identity import NodeObject
from agent.tunnels import TunnelKeeper
from datastore.errors import AlreadyExists
from datastore.memory import MemoryStore
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.node import Node
from datastore.resources.value import Metadata
from ipam.allocator import Allocator
from ipam.handles import Handles
from tests.ipam.world import owners

VXLAN_V4 = IPPool(metadata=Metadata(name="four"), spec=IPPoolSpec(cidr="10.65.0.0/24", vxlan_mode="Always"))
VXLAN_V6 = IPPool(metadata=Metadata(name="six"), spec=IPPoolSpec(cidr="fd65::/112", vxlan_mode="CrossSubnet"))
PLAIN = IPPool(metadata=Metadata(name="plain"), spec=IPPoolSpec(cidr="10.66.0.0/24"))
OF_PODS = IPPool(
    metadata=Metadata(name="pods"),
    spec=IPPoolSpec(cidr="10.67.0.0/24", vxlan_mode="Always", allowed_uses=("Workload",)),
)
ELSEWHERE = IPPool(
    metadata=Metadata(name="rack"),
    spec=IPPoolSpec(cidr="10.68.0.0/24", vxlan_mode="Always", node_selector="rack == 'b'"),
)


class World:
    def __init__(self, folder: Path, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.allocator = Allocator(self.store, "node-1", "m1")
        self.object = NodeObject(self.store, "node-1", "m1", (ip_address("172.30.0.1"),), self.allocator)
        self.told = 0
        self.keeper = TunnelKeeper("node-1", self.allocator, Handles(folder), self._tell)
        self.object.tunnel_addresses = self.keeper.addresses

    def _tell(self) -> None:
        self.told += 1

    async def with_pools(self, *pools: IPPool) -> tuple[str, ...]:
        """What the Node tells once the node has seen these pools."""
        for pool in pools:
            with suppress(AlreadyExists):
                await self.store.create(pool)
        await self.allocator.load()
        self.allocator.set_pools(pools)
        await self.keeper.look()
        await self.object.write()
        return (await self.store.get(Node, "node-1")).spec.tunnel_addresses


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_pool_with_an_encapsulation_gives_the_node_an_end_of_each_family(world: World) -> None:
    four, six = await world.with_pools(VXLAN_V4, VXLAN_V6)
    assert ip_address(four) in ip_network(VXLAN_V4.spec.cidr)
    assert ip_address(six) in ip_network(VXLAN_V6.spec.cidr)
    assert set((await owners(world.store)).values()) == {"tunnel/node-1/ipv4", "tunnel/node-1/ipv6"}
    assert world.told


@pytest.mark.parametrize(
    "pool",
    [
        pytest.param(PLAIN, id="without an encapsulation"),
        pytest.param(OF_PODS, id="that isn't for tunnels"),
        pytest.param(ELSEWHERE, id="that selects other nodes"),
    ],
)
async def test_other_pools_give_none(world: World, pool: IPPool) -> None:
    assert await world.with_pools(pool) == ()
    assert await owners(world.store) == {}


async def test_the_end_is_the_same_after_a_restart(world: World, tmp_path: Path) -> None:
    before = await world.with_pools(VXLAN_V4)
    again = World(tmp_path, world.store)
    assert await again.with_pools(VXLAN_V4) == before
    assert len(await owners(world.store)) == 1


async def test_until_it_has_looked_the_node_tells_what_it_told(world: World, tmp_path: Path) -> None:
    before = await world.with_pools(VXLAN_V4)
    again = World(tmp_path, world.store)
    await again.object.write()
    assert (await world.store.get(Node, "node-1")).spec.tunnel_addresses == before


async def test_it_goes_back_when_no_pool_needs_it(world: World) -> None:
    await world.with_pools(VXLAN_V4)
    assert await world.with_pools(PLAIN) == ()
    assert await owners(world.store) == {}


async def test_it_moves_when_its_pool_is_no_more_for_tunnels(world: World) -> None:
    other = IPPool(metadata=Metadata(name="other"), spec=IPPoolSpec(cidr="10.70.0.0/24", vxlan_mode="Always"))
    await world.with_pools(VXLAN_V4)
    (moved,) = await world.with_pools(other)
    assert ip_address(moved) in ip_network(other.spec.cidr)
    assert len(await owners(world.store)) == 1


async def test_a_pool_that_selects_nodes_serves_those_with_the_label(world: World) -> None:
    world.allocator.node_labels = {"rack": "b"}
    (end,) = await world.with_pools(ELSEWHERE)
    assert ip_address(end) in ip_network(ELSEWHERE.spec.cidr)
