"""Routes follow from Nodes, blocks and local pods; others' routes and live pods' are left alone."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.graph import Graph
from agent.routes import RouteKeeper
from cni.records import HeldAddress, Record
from datastore.memory import MemoryStore
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from ipam.allocator import Allocator, Wanted
from ipam.block import Owner
from ipam.handles import Handles
from kernel.errors import KernelError
from kernel.fake import FakeKernel, FakeRoutes
from kernel.links import Route
from policy.compiler import Compiler
from tests.ipam.world import pool

GATEWAY = Route(ip_network("169.254.1.1/32"), interface="lo")


def other(
    name: str,
    *addresses: str,
    blocks: tuple[str, ...] = (),
    borrowed: tuple[str, ...] = (),
    pod_cidrs: tuple[str, ...] = (),
    revision: str = "1",
) -> Node:
    spec = NodeSpec(machine="m", addresses=addresses, blocks=blocks, borrowed=borrowed, pod_cidrs=pod_cidrs)
    return Node(metadata=Metadata(name=name, resource_version=revision), spec=spec)


def local(name: str, address: str) -> Record:
    held = HeldAddress("b", 0, "00000000000000aa", address)
    return Record(
        network="n", container_id=name, interface="eth0", host_interface=f"tort{name}", namespace="shop", pod=name,
        held=(held,), complete=True,
    )  # fmt: skip


class Keeper:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.kernel.interfaces = {"lo", "torta", "tortb"}
        self.store = MemoryStore()
        self.graph = Graph("node-1", Compiler("node-1"))
        self.allocator = Allocator(self.store, "node-1", "m1")
        self.keeper = RouteKeeper("node-1", self.graph, self.allocator, FakeRoutes(self.kernel))

    def nodes(self, *nodes: Node) -> None:
        self.graph.on_listed(Node, nodes)


@pytest.fixture
def world() -> Keeper:
    return Keeper()


def route(text: str, via: str = "", dev: str = "") -> Route:
    return Route(ip_network(text), dev, ip_address(via) if via else None)


async def test_other_nodes_blocks_and_borrowed_addresses_go_by_their_address_of_the_family(world: Keeper) -> None:
    world.nodes(
        other("node-2", "172.30.0.2", "fd30::2", blocks=("10.65.0.64/26", "fd65::40/122"), borrowed=("10.65.9.9",)),
        other("node-3", "172.30.0.3", blocks=("10.65.1.0/26", "fd65::80/122"), pod_cidrs=("10.1.3.0/24",)),
        other("node-1", "172.30.0.1", blocks=("10.65.7.0/26",)),
    )
    await world.keeper.apply()
    assert world.kernel.routes == {
        GATEWAY,
        route("10.1.3.0/24", via="172.30.0.3"),
        route("10.65.0.64/26", via="172.30.0.2"),
        route("fd65::40/122", via="fd30::2"),
        route("10.65.9.9/32", via="172.30.0.2"),
        route("10.65.1.0/26", via="172.30.0.3"),
    }


async def test_own_blocks_are_blackholes(world: Keeper, tmp_path: Path) -> None:
    await world.store.create(pool("p", "10.65.0.0/26"))
    async with Handles(tmp_path).hold("h") as hold:
        await world.allocator.assign(Owner("h", "node-1"), Wanted((4,)), hold)
    await world.keeper.apply()
    assert world.kernel.routes == {GATEWAY, route("10.65.0.0/26")}


async def test_a_block_of_one_address_leaves_the_way_to_its_pods_route(world: Keeper, tmp_path: Path) -> None:
    await world.store.create(pool("p", "10.65.0.1/32", block_size=32))
    async with Handles(tmp_path).hold("h") as hold:
        await world.allocator.assign(Owner("h", "node-1"), Wanted((4,)), hold)
    await world.keeper.apply()
    assert world.kernel.routes == {GATEWAY}


async def test_routes_follow_nodes_that_change_and_go(world: Keeper) -> None:
    world.nodes(other("node-2", "172.30.0.2", blocks=("10.65.0.64/26",)))
    await world.keeper.apply()
    world.nodes(other("node-2", "172.30.0.9", blocks=("10.65.0.64/26", "10.65.0.128/26"), revision="2"))
    await world.keeper.apply()
    assert world.kernel.routes - {GATEWAY} == {
        route("10.65.0.64/26", via="172.30.0.9"),
        route("10.65.0.128/26", via="172.30.0.9"),
    }
    world.nodes()
    await world.keeper.apply()
    assert world.kernel.routes == {GATEWAY}


async def test_an_address_that_came_home_is_routed_to_its_pod_not_to_the_borrower(world: Keeper) -> None:
    world.nodes(other("node-2", "172.30.0.2", borrowed=("10.65.0.7",)))
    world.graph.set_local(local("a", "10.65.0.7"))
    await world.keeper.refresh()
    assert world.keeper.desired() == {GATEWAY}
    assert world.kernel.routes == {GATEWAY, route("10.65.0.7/32", dev="torta")}


async def test_a_block_whose_first_address_is_borrowed_here_is_routed_all_the_same(world: Keeper) -> None:
    world.nodes(other("node-2", "172.30.0.2", blocks=("10.65.0.64/26",)))
    world.graph.set_local(local("a", "10.65.0.64"))
    assert world.keeper.desired() == {GATEWAY, route("10.65.0.64/26", via="172.30.0.2")}


async def test_a_refresh_mends_and_says_what_it_found(world: Keeper) -> None:
    world.nodes(other("node-2", "172.30.0.2", blocks=("10.65.0.64/26",)))
    world.graph.set_local(local("a", "10.65.0.7"))
    await world.keeper.refresh()
    right = set(world.kernel.routes)
    assert await world.keeper.refresh() == ()
    world.kernel.routes.clear()
    world.kernel.routes.add(route("10.77.0.0/26"))
    found = await world.keeper.refresh()
    assert world.kernel.routes == right
    assert sorted(found) == [
        "route 10.65.0.64/26 was missing or different",
        "route 10.65.0.7/32 was missing or different",
        "route 10.77.0.0/26 was nobody's",
        "route 169.254.1.1/32 was missing or different",
    ]


async def test_a_change_that_comes_while_the_kernel_is_read_is_no_repair(world: Keeper) -> None:
    world.nodes(other("node-2", "172.30.0.2", blocks=("10.65.0.64/26",)))
    await world.keeper.refresh()
    world.nodes(other("node-2", "172.30.0.2", blocks=("10.65.0.128/26",), revision="2"))
    assert await world.keeper.refresh() == ()
    assert world.kernel.routes == {GATEWAY, route("10.65.0.128/26", via="172.30.0.2")}


async def test_a_route_by_a_host_end_that_nobody_knows_yet_is_left(world: Keeper) -> None:
    world.kernel.routes.add(route("10.65.0.9/32", dev="tortb"))
    assert "10.65.0.9" not in " ".join(await world.keeper.refresh())
    assert route("10.65.0.9/32", dev="tortb") in world.kernel.routes


async def test_a_pod_whose_link_is_gone_is_no_reason_to_fail(world: Keeper) -> None:
    world.graph.set_local(local("gone", "10.65.0.7"))
    assert "10.65.0.7" not in " ".join(await world.keeper.refresh())
    assert world.kernel.routes == {GATEWAY}


class Refusing(FakeRoutes):
    """Refuses one gateway, as a kernel does that has no subnet with it."""

    def change(self, added, removed=()):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        routes = list(added)
        if any(str(one.gateway) == "192.0.2.2" for one in routes):
            raise KernelError("route: Nexthop has invalid gateway")
        super().change(routes, removed)


async def test_a_node_that_is_on_no_subnet_of_ours_keeps_no_other_from_its_route(
    world: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = RouteKeeper("node-1", world.graph, world.allocator, Refusing(world.kernel))
    world.nodes(
        other("node-2", "192.0.2.2", blocks=("10.65.0.64/26",)), other("node-3", "172.30.0.3", blocks=("10.65.1.0/26",))
    )
    await keeper.apply()
    assert world.kernel.routes == {GATEWAY, route("10.65.1.0/26", via="172.30.0.3")}
    assert "invalid gateway" in caplog.text


async def test_a_block_with_addresses_on_another_plugins_link_is_no_blackhole(world: Keeper, tmp_path: Path) -> None:
    await world.store.create(pool("p", "10.65.0.0/16", None))
    handles = Handles(tmp_path)

    async def assign(handle: str, *, on_link: bool) -> None:
        async with handles.hold(handle) as hold:
            await world.allocator.assign(Owner(handle, "node-1", on_link=on_link), Wanted((4,)), hold)

    await assign("a", on_link=False)
    (block,) = world.allocator.networks()
    await world.keeper.apply()
    assert world.kernel.routes == {GATEWAY, Route(block)}
    await assign("b", on_link=True)
    await world.keeper.apply()
    assert world.kernel.routes == {GATEWAY}
