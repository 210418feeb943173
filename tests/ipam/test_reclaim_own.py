"""What a node takes back of its own: only what its records, its kernel and the API all deny, for the grace."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from datastore.errors import NotFound
from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec, Migration
from datastore.resources.node import Node as NodeResource
from datastore.resources.node import NodeSpec
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint
from ipam.allocator import Wanted
from ipam.block import Address, Held, Owner
from ipam.handles import Hold, lock_of
from ipam.reclaim_own import OwnReclaim
from ipam.takeover import take_over
from tests.ipam.test_reclaim import endpoint, pod
from tests.ipam.world import Clock, Node, blocks_of, owners, pool

GRACE_S = 60
SETTINGS = ClusterConfigurationSpec(reclaim_grace_seconds=GRACE_S)
HANDLE = "net:c1:eth0"


@dataclass
class Seen:
    """What the node's files and kernel say."""

    records: dict[str, frozenset[Address]] = field(default_factory=dict)
    routes: frozenset[Address] = frozenset()
    asked: int = 0

    def recorded(self, handle: str, address: Address | None) -> bool:
        if address is None:
            return handle in self.records
        return any(address in addresses for addresses in self.records.values())

    async def routed(self) -> frozenset[Address]:
        self.asked += 1
        return self.routes


class World:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self.node = Node("n3", self.store, folder, self.clock)
        self.seen = Seen()
        self.reclaim = OwnReclaim(
            self.store,
            self.node.allocator,
            self.node.handles,
            self.seen,
            node="n3",
            machine="machine-n3",
            clock=self.clock,
        )

    async def add(self, handle: str = HANDLE, *, on_link: bool = False) -> Held:
        owner = Owner(handle, "n3", "web", "shop", "u1", on_link)
        async with self.node.handles.hold(handle) as hold:
            (held,) = await self.node.allocator.assign(owner, Wanted((4,)), hold)
            hold.settle()
        return held

    async def pass_by(self, seconds: float, every_s: float = 10, *, fresh: bool = False) -> list[str]:
        done: list[str] = []
        for _ in range(int(seconds / every_s)):
            self.clock.now += every_s
            done += await self.reclaim.look(SETTINGS, fresh=fresh)
        return done

    async def owned(self) -> set[str]:
        return set((await owners(self.store)).values())


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.store.create(pool("p", "10.65.0.0/16"))
    spec = NodeSpec(machine="machine-n3")
    await made.store.create(NodeResource(metadata=Metadata(name="n3"), spec=spec))
    await made.node.allocator.load()
    return made


async def test_an_address_that_nobody_knows_comes_back_after_the_grace_and_not_before(world: World) -> None:
    held = await world.add()
    assert await world.pass_by(GRACE_S) == []
    assert await world.pass_by(10) == [
        f"reclaimed {held.address} of shop/web (uid u1): neither a record nor a route of this node has it, "
        "and no endpoint names it"
    ]
    assert await world.owned() == set()


async def test_what_has_a_record_costs_no_look_at_kernel_or_store(world: World) -> None:
    held = await world.add()
    world.seen.records[HANDLE] = frozenset({held.address})
    assert await world.pass_by(3 * GRACE_S) == []
    assert (world.seen.asked, await world.owned()) == (0, {HANDLE})


async def test_an_address_that_the_kernel_routes_to_a_pod_stays_though_its_record_is_lost(world: World) -> None:
    held = await world.add()
    world.seen.routes = frozenset({held.address})
    assert await world.pass_by(3 * GRACE_S) == []
    world.seen.routes = frozenset()
    assert await world.pass_by(GRACE_S) == []
    assert len(await world.pass_by(10)) == 1


async def test_a_record_that_names_another_address_protects_only_that(world: World) -> None:
    held = await world.add()
    world.seen.records[HANDLE] = frozenset({held.address + 9})
    await world.pass_by(GRACE_S + 10)
    assert await world.owned() == set()


async def test_a_live_pod_protects_the_address_it_names(world: World) -> None:
    held = await world.add()
    created = await world.store.create(pod("db", "u9", str(held.address)))
    assert await world.pass_by(3 * GRACE_S) == []
    await world.store.delete(created)
    assert await world.pass_by(GRACE_S) == []
    assert len(await world.pass_by(10)) == 1


async def test_an_endpoint_of_another_node_protects_the_address_it_names(world: World) -> None:
    held = await world.add()
    await world.store.create(endpoint(str(held.address), node="n4", container="c9"))
    assert await world.pass_by(3 * GRACE_S) == []
    assert await world.owned() == {HANDLE}


async def test_an_endpoint_of_this_node_without_a_record_goes_first(world: World) -> None:
    held = await world.add()
    await world.store.create(endpoint(str(held.address)))
    done = await world.pass_by(GRACE_S + 10)
    assert [line.partition(":")[0] for line in done] == [
        "deleted endpoint shop/web",
        f"reclaimed {held.address} of shop/web (uid u1)",
    ]
    with pytest.raises(NotFound):
        await world.store.get(WorkloadEndpoint, "web", "shop")


async def test_an_endpoint_whose_attachment_has_a_record_stays(world: World) -> None:
    held = await world.add("net:c2:eth0")
    await world.store.create(endpoint(str(held.address)))
    world.seen.records[HANDLE] = frozenset()
    assert await world.pass_by(3 * GRACE_S) == []


async def test_a_handle_that_somebody_holds_or_left_with_a_write_in_flight_is_not_ownerless(world: World) -> None:
    await world.add()
    async with world.node.handles.hold(HANDLE):
        assert await world.pass_by(3 * GRACE_S) == []
    assert world.seen.asked == 0, "an ADD that takes its time costs nothing"
    async with world.node.handles.hold(HANDLE) as hold:
        hold.intend()
    assert await world.pass_by(3 * GRACE_S) == []
    async with world.node.handles.hold(HANDLE) as hold:
        hold.settle()
    assert await world.pass_by(GRACE_S) == []
    assert len(await world.pass_by(10)) == 1


async def recorded(world: World) -> None:
    world.seen.records[HANDLE] = frozenset(await owners(world.store))


async def intended(world: World) -> None:
    async with world.node.handles.hold(HANDLE) as hold:
        hold.intend()


async def named(world: World) -> None:
    (address,) = await owners(world.store)
    await world.store.create(pod("db", "u9", str(address)))


@pytest.mark.parametrize(
    ("happens", "looks"),
    [
        pytest.param(recorded, 1, id="a record, before the handle is held"),
        pytest.param(recorded, 2, id="a record, while it is"),
        pytest.param(intended, 1, id="a write in flight"),
        pytest.param(named, 1, id="a pod that names it"),
    ],
)
async def test_what_comes_to_be_known_at_the_last_moment_is_seen(
    world: World, happens: Callable[[World], Awaitable[None]], looks: int
) -> None:
    await world.add()
    await world.pass_by(GRACE_S)
    world.seen.asked = 0
    first = world.seen.routed

    async def meanwhile() -> frozenset[Address]:
        found = await first()
        if world.seen.asked == looks:
            await happens(world)
        return found

    world.seen.routed = meanwhile  # type: ignore[method-assign]
    assert await world.pass_by(10) == []
    assert await world.owned() == {HANDLE}


async def test_a_write_that_another_process_left_in_flight_just_now_is_seen_once_the_handle_is_held(
    world: World, tmp_path: Path
) -> None:
    await world.add()
    await world.pass_by(GRACE_S)
    handles = world.node.handles
    real = handles.hold

    def left(handle: str, wait_s: float | None = None) -> AbstractAsyncContextManager[Hold]:
        lock_of(tmp_path / "n3", handle).write_text(handle)
        return real(handle, wait_s)

    handles.hold = left  # type: ignore[method-assign, assignment]
    assert await world.pass_by(10) == []
    assert await world.owned() == {HANDLE}


async def test_an_address_on_another_plugins_link_is_left_to_gc(world: World) -> None:
    await world.add(on_link=True)
    assert await world.pass_by(3 * GRACE_S) == []


async def test_what_is_by_hand_and_this_nodes_tunnel_end_stay(world: World) -> None:
    await world.add("manual/web")
    await world.add("tunnel/n3")
    assert await world.pass_by(3 * GRACE_S) == []
    assert world.seen.asked == 0


@pytest.mark.parametrize("machine", ["machine-of-another", ""])
async def test_a_node_whose_name_is_not_its_own_any_more_takes_nothing_back(world: World, machine: str) -> None:
    await world.add()
    found = await world.store.get(NodeResource, "n3")
    await world.store.delete(found)
    if machine:
        await world.store.create(msgspec.structs.replace(found, spec=NodeSpec(machine=machine)))
    assert await world.pass_by(3 * GRACE_S) == []
    assert await world.owned() == {HANDLE}


async def test_nothing_is_touched_while_the_datastore_is_being_moved(world: World) -> None:
    await world.add()
    moving = msgspec.structs.replace(SETTINGS, migration=Migration(id="m", to="etcd://other"))
    for _ in range(10):
        assert await world.reclaim.look(moving) == ()
        world.clock.now += 10
    assert await world.owned() == {HANDLE}


async def test_what_another_process_put_into_the_store_is_found_by_a_fresh_look(world: World, tmp_path: Path) -> None:
    await world.add()
    world.seen.records[HANDLE] = frozenset(await owners(world.store))
    other = Node("n3", world.store, tmp_path / "other", world.clock)
    await other.allocator.load()
    async with other.handles.hold("net:c7:eth0") as hold:
        await other.allocator.assign(Owner("net:c7:eth0", "n3"), Wanted((4,)), hold)
    assert await world.pass_by(GRACE_S + 10) == []
    assert len(await world.pass_by(GRACE_S + 10, fresh=True)) == 1
    assert await world.owned() == {HANDLE}


async def test_what_the_machine_had_that_bore_the_name_before_comes_back_too(tmp_path: Path, world: World) -> None:
    await world.add()
    await world.store.delete(await world.store.get(NodeResource, "n3"))
    spec = NodeSpec(machine="m-new")
    await world.store.create(NodeResource(metadata=Metadata(name="n3"), spec=spec))
    fresh = Node("n3", world.store, tmp_path / "new", world.clock, "m-new")
    assert await take_over(world.store, "n3", "m-new") == (
        f"took over block {(await blocks_of(world.store))[0].network} from machine machine-n3",
    )
    await fresh.allocator.load()
    reclaim = OwnReclaim(
        world.store, fresh.allocator, fresh.handles, Seen(), node="n3", machine="m-new", clock=world.clock
    )
    done: list[str] = []
    for _ in range(GRACE_S // 10 + 1):
        done += await reclaim.look(SETTINGS)
        world.clock.now += 10
    assert len(done) == 1
    assert len(fresh.allocator.networks()) == 1
