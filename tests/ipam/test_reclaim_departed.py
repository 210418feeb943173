"""What a departed node leaves is taken back after the grace, and nothing before, nor anything that is somebody's."""

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from datastore.errors import NotFound, Unavailable
from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec, Migration
from datastore.resources.ipblock import IPBlock
from datastore.resources.kubernetes import Pod
from datastore.resources.node import Node as NodeResource
from datastore.resources.node import NodeSpec
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint
from ipam import claims
from ipam.allocator import Settings, Wanted
from ipam.block import Address, Among, Held, Owner
from ipam.reclaim_departed import DepartedReclaim, absent_nodes
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.ipam.test_reclaim import endpoint, pod
from tests.ipam.world import Clock, Node, blocks_of, no_pause, owners, pool

GRACE_S = 60
SETTINGS = ClusterConfigurationSpec(reclaim_grace_seconds=GRACE_S, cooldown_seconds=30)


class World:
    """Nodes on one store, and one who looks after those that depart."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.seen = FaultyStore(self.store)
        self.clock = Clock()
        self.reclaim = DepartedReclaim(self.seen, clock=self.clock, wall=self.clock, pause=no_pause)
        self._folder = folder

    async def arrive(self, name: str, machine: str = "") -> Node:
        spec = NodeSpec(machine=machine or f"machine-{name}")
        await self.store.create(NodeResource(metadata=Metadata(name=name), spec=spec))
        node = Node(name, self.store, self._folder, self.clock)
        await node.allocator.load()
        return node

    async def depart(self, name: str) -> None:
        await self.store.delete(await self.store.get(NodeResource, name))

    async def add(self, node: Node, handle: str, address: str = "", pod: str = "web", uid: str = "u1") -> Held:
        among = {4: Among.only(ip_address(address))} if address else {}
        async with node.handles.hold(handle) as hold:
            owner = Owner(handle, node.name, pod, "shop", uid)
            (held,) = await node.allocator.assign(owner, Wanted((4,), among=among), hold)
            hold.settle()
        return held

    async def look(self, settings: ClusterConfigurationSpec = SETTINGS) -> tuple[str, ...]:
        return await self.reclaim.look(await absent_nodes(self.store), await claims.read(self.store), settings)

    async def pass_by(self, seconds: float, every_s: float = 10) -> list[str]:
        """Look every few seconds for so long; gives what was done."""
        done: list[str] = []
        for _ in range(int(seconds / every_s)):
            self.clock.now += every_s
            done += await self.look()
        return done

    async def owned(self) -> dict[Address, str]:
        return await owners(self.store)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.store.create(pool("p", "10.65.0.0/16"))
    return made


async def test_addresses_and_blocks_of_a_departed_node_come_back_after_the_grace_and_none_before(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await world.depart("n3")
    assert await world.look() == ()
    assert await world.pass_by(GRACE_S - 10) == []
    assert await world.pass_by(10) == [
        f"reclaimed {held.address} of shop/web (uid u1): node n3 departed 60 s ago, no endpoint names it"
    ]
    assert (await world.owned(), len(await blocks_of(world.store))) == ({}, 1)
    (line,) = await world.pass_by(40)  # the cooldown of what was freed, and a look to see that it is empty
    assert line.endswith("which is empty: node n3 departed 100 s ago")
    assert await blocks_of(world.store) == []


async def test_a_node_that_is_there_is_left_alone_however_silent_it_is(world: World) -> None:
    node = await world.arrive("n3")
    await world.add(node, "net:c1:eth0")
    assert await world.pass_by(10 * GRACE_S) == []
    assert len(await world.owned()) == 1


async def test_a_node_that_comes_back_keeps_everything_and_its_grace_begins_anew(world: World) -> None:
    node = await world.arrive("n3")
    await world.add(node, "net:c1:eth0")
    await world.depart("n3")
    await world.look()
    await world.pass_by(GRACE_S - 10)
    await world.arrive("n3")
    await world.pass_by(10)
    await world.depart("n3")
    await world.look()
    assert await world.pass_by(GRACE_S - 10) == []
    assert len(await world.pass_by(10)) == 1


async def test_a_node_that_comes_back_unseen_just_before_is_asked_for_once_more(world: World) -> None:
    node = await world.arrive("n3")
    await world.add(node, "net:c1:eth0")
    await world.depart("n3")
    absent, known = await absent_nodes(world.store), await claims.read(world.store)
    for _ in range(GRACE_S // 10):
        assert await world.reclaim.look(absent, known, SETTINGS) == ()
        world.clock.now += 10
    await world.arrive("n3")
    assert await world.reclaim.look(absent, known, SETTINGS) == ()
    assert len(await world.owned()) == 1


def of_alive(address: Address) -> list[Pod | WorkloadEndpoint]:
    return [pod("db", "u9", str(address)), endpoint(str(address), node="n4", container="c9", name="db")]


@pytest.mark.parametrize("kind", [Pod, WorkloadEndpoint])
async def test_a_live_pod_protects_the_address_it_names_whatever_the_allocation_says(
    world: World, kind: type[Pod] | type[WorkloadEndpoint]
) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0", pod="other", uid="u0")
    await world.add(node, "net:c2:eth0", pod="dead", uid="u8")
    await world.arrive("n4")
    (alive,) = (one for one in of_alive(held.address) if isinstance(one, kind))
    created = await world.store.create(alive)
    await world.depart("n3")
    await world.look()
    assert len(await world.pass_by(3 * GRACE_S)) == 1
    assert set((await world.owned()).values()) == {"net:c1:eth0"}
    await world.store.delete(created)
    assert await world.pass_by(GRACE_S) == []
    assert len(await world.pass_by(10)) == 1


async def test_a_pod_that_comes_to_be_known_just_before_is_seen(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await world.depart("n3")
    absent, nobody = await absent_nodes(world.store), await claims.read(world.store)
    await world.store.create(pod("db", "u9", str(held.address)))
    for _ in range(10):
        assert await world.reclaim.look(absent, nobody, SETTINGS) == ()
        world.clock.now += 10


async def test_endpoints_of_a_departed_node_go_with_it_and_protect_nothing_for_longer(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await world.store.create(endpoint(str(held.address)))
    await world.depart("n3")
    await world.look()
    done = await world.pass_by(GRACE_S)
    assert [line.partition(":")[0] for line in done] == [
        "deleted endpoint shop/web",
        f"reclaimed {held.address} of shop/web (uid u1)",
    ]


async def test_an_endpoint_that_has_found_another_node_stays_with_its_address(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    created = await world.store.create(endpoint(str(held.address)))
    await world.depart("n3")
    await world.look()
    await world.pass_by(GRACE_S - 10)
    await world.arrive("n4")
    spec = msgspec.structs.replace(created.spec, node="n4")
    absent, known = await absent_nodes(world.store), await claims.read(world.store)
    await world.store.update(msgspec.structs.replace(created, spec=spec))
    world.clock.now += 10
    assert await world.reclaim.look(absent, known, SETTINGS) == ()
    assert len(await world.owned()) == 1


async def test_tunnel_ends_go_with_their_node_and_what_is_by_hand_stays(world: World) -> None:
    node = await world.arrive("n3")
    await world.add(node, "tunnel/n3", pod="", uid="")
    await world.add(node, "manual/web", pod="", uid="")
    await world.depart("n3")
    await world.look()
    (line,) = await world.pass_by(3 * GRACE_S)
    assert "tunnel/n3: node n3 departed" in line
    assert set((await world.owned()).values()) == {"manual/web"}
    assert len(await blocks_of(world.store)) == 1


async def test_what_a_live_node_borrowed_from_a_departed_one_stays_and_so_does_the_block(world: World) -> None:
    departing, borrower = await world.arrive("n3"), await world.arrive("n4")
    lent = await world.add(departing, "net:c1:eth0")
    borrower.allocator.settings = Settings(strict_affinity=False)
    await world.add(borrower, "net:c2:eth0", str(lent.address + 1))
    await world.depart("n3")
    await world.look()
    assert len(await world.pass_by(5 * GRACE_S)) == 1
    assert set((await world.owned()).values()) == {"net:c2:eth0"}
    await borrower.allocator.release_handle("net:c2:eth0")
    await world.pass_by(2 * GRACE_S)
    assert await blocks_of(world.store) == []


async def test_what_a_departed_node_borrowed_comes_back_to_the_block_of_a_live_one(world: World) -> None:
    departing, lender = await world.arrive("n3"), await world.arrive("n4")
    lent = await world.add(lender, "net:c1:eth0")
    await world.add(departing, "net:c2:eth0", str(lent.address + 1))
    await world.depart("n3")
    await world.look()
    await world.pass_by(3 * GRACE_S)
    assert set((await world.owned()).values()) == {"net:c1:eth0"}


async def test_an_unready_block_of_a_departed_node_goes_too(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await node.allocator.release([held])
    (block,) = await blocks_of(world.store)
    spec = msgspec.structs.replace(block.record.spec, ready=False)
    await world.store.update(msgspec.structs.replace(block.record, spec=spec))
    await world.depart("n3")
    await world.look()
    assert await world.pass_by(GRACE_S - 10) == []
    assert len(await world.pass_by(10)) == 1
    assert await blocks_of(world.store) == []


async def test_an_address_that_was_assigned_anew_meanwhile_is_not_freed(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await world.depart("n3")
    await world.look()
    await world.pass_by(GRACE_S - 10)

    async def come_back(call: Call) -> Fate:
        if call.verb == "update":
            world.seen.gate = always_ok
            assert await node.allocator.adopt(Owner("net:c1:eth0", "n3", "web", "shop", "u1"), held) is not None
        return Fate.OK

    async def always_ok(_: Call) -> Fate:
        return Fate.OK

    world.seen.gate = come_back
    await world.pass_by(10)
    assert set((await world.owned()).values()) == {"net:c1:eth0"}


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.LOST_APPLIED, Fate.LOST_LATER, Fate.REFUSED])
async def test_a_write_whose_answer_is_lost_or_refused_ends_well_in_a_later_look(world: World, fate: Fate) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await world.store.create(endpoint(str(held.address)))
    await world.depart("n3")
    await world.look()
    fates = dict.fromkeys(("update", "delete"), fate)

    async def once(call: Call) -> Fate:
        return fates.pop(call.verb, Fate.OK)

    world.seen.gate = once
    for _ in range(8):
        with suppress(Unavailable):  # the next look goes on
            await world.pass_by(GRACE_S)
    while world.seen.late:
        await world.seen.land()
    assert (await world.owned(), await blocks_of(world.store)) == ({}, [])
    with pytest.raises(NotFound):
        await world.store.get(WorkloadEndpoint, "web", "shop")


async def test_nothing_is_touched_while_the_datastore_is_being_moved(world: World) -> None:
    node = await world.arrive("n3")
    await world.add(node, "net:c1:eth0")
    await world.depart("n3")
    moving = msgspec.structs.replace(SETTINGS, migration=Migration(id="m", to="etcd://other"))
    for _ in range(10):
        assert await world.look(moving) == ()
        world.clock.now += 10
    assert await world.look() == ()
    assert len(await world.pass_by(GRACE_S)) == 1


async def test_a_frozen_block_is_left_as_it_is(world: World) -> None:
    node = await world.arrive("n3")
    held = await world.add(node, "net:c1:eth0")
    await freeze(world.store)
    await world.depart("n3")
    await world.look()
    assert await world.pass_by(3 * GRACE_S) == []
    assert list(await world.owned()) == [held.address]


async def test_a_frozen_block_that_is_empty_is_left_too(world: World) -> None:
    node = await world.arrive("n3")
    await node.allocator.release([await world.add(node, "net:c1:eth0")])
    await freeze(world.store)
    await world.depart("n3")
    await world.look()
    assert await world.pass_by(3 * GRACE_S) == []
    assert len(await blocks_of(world.store)) == 1


async def freeze(store: MemoryStore) -> None:
    found: Iterable[IPBlock] = (await store.list(IPBlock)).items
    for block in found:
        spec = msgspec.structs.replace(block.spec, frozen="m")
        await store.update(msgspec.structs.replace(block, spec=spec))
