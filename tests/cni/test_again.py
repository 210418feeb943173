"""What comes after what came before: DELs beside their stores, ADDs after half-done ones, containers that come back."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from cni import removals
from cni.flows import Flows
from datastore.memory import MemoryStore
from datastore.resources.value import Resource
from datastore.store import Listing, Where
from ipam.allocator import Settings
from ipam.block import Address
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from tests.cni.node import ATTACHMENT, Running, Stubborn, World, fill, worlds
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

POOLS = {"v4": "10.65.0.0/24", "v6": "fd65::/64"}
NOTHING: dict[str, object] = {"links": [], "routes": [], "files": [], "pods": []}
R = TypeVar("R", bound=Resource)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path) as made:
        yield made


class Slow(MemoryStore):
    """A store that takes its time when told."""

    def __init__(self) -> None:
        super().__init__()
        self.quick = asyncio.Event()
        self.quick.set()

    async def update(self, resource: R) -> R:
        await self.quick.wait()
        return await super().update(resource)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        await self.quick.wait()
        return await super().list(kind, where)


def test_a_delete_is_answered_before_a_slow_store_and_so_is_the_next_one(world: World) -> None:
    world.store = store = Slow()

    async def scenario(running: Running) -> None:
        await fill(store, **POOLS)
        await running.add()
        store.quick.clear()
        async with asyncio.timeout(5):
            assert [(await running.call("DEL")).status for _ in range(2)] == [0, 0]
        assert [record.container_id for record in running.node.records.unfinished()] == ["c1"]
        store.quick.set()
        await removals.ended(running.node)
        assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


def test_a_delete_of_what_has_no_record_is_answered_when_the_store_has_it(world: World) -> None:
    world.store = store = Slow()

    async def scenario(running: Running) -> None:
        await fill(store, **POOLS)
        await running.add()
        lost(running)
        store.quick.clear()
        deleting = asyncio.ensure_future(running.call("DEL"))
        done, _ = await asyncio.wait([deleting], timeout=0.2)
        assert not done, "nothing on disk says yet that the address is to be freed"
        store.quick.set()
        assert (await deleting).status == 0
        assert await running.owned() == []

    world.run(scenario)


def lost(running: Running) -> None:
    """Remove the record, as a state folder that was cleared does."""
    (path,) = running.world.state.glob("attachments/*.json")
    path.unlink()


def test_a_container_that_comes_back_is_deleted_like_any_other(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        for _ in range(3):
            await running.add()
            await running.delete()
            assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


def test_a_container_that_came_back_and_lost_its_record_is_looked_up(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.add()
        await running.delete()
        await running.add()
        lost(running)
        await running.delete()
        assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


def test_links_leave_by_themselves_after_a_delete(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.node.reaper.reaped()  # the round that follows a start
        await running.add()
        await running.delete()
        async with asyncio.timeout(5):
            while world.host_ends():
                await asyncio.sleep(0.02)

    world.run(scenario)


def test_a_delete_that_cannot_take_the_link_down_says_so_and_the_next_one_finishes_it(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.add()
        links = running.node.links
        with closing(NetlinkSocket.open()) as sock:
            running.node.links = Stubborn(sock, sock)
            refused = await running.call("DEL")
        assert refused.status == 1
        assert b"Operation not permitted" in refused.stdout
        assert len(await running.owned()) == 2
        running.node.links = links
        assert (await running.delete()).status == 0
        assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


class Noting(Flows):
    """Says which addresses' flows it was asked to forget, and when."""

    def __init__(self, sock: NetlinkSocket) -> None:
        super().__init__(sock)
        self.asked: list[tuple[str, int]] = []

    def forget_soon(self, addresses: Iterable[Address]) -> None:
        self.asked.append(("soon", len(tuple(addresses))))

    async def forgotten(self, addresses: Iterable[Address]) -> None:
        self.asked.append(("before the gate", len(tuple(addresses))))


def test_flows_are_forgotten_after_a_delete_and_before_an_address_is_anothers(world: World) -> None:
    async def scenario(running: Running) -> None:
        with closing(NetlinkSocket.open(NETLINK_NETFILTER)) as sock:
            running.node.flows = flows = Noting(sock)
            await fill(world.store, v4="10.65.0.0/32")
            running.node.allocator.settings = Settings(cooldown_s=0)
            for _ in range(2):
                await running.add(ipam={"assign_ipv4": True})
                await running.delete()
        fresh, used = ("before the gate", 0), ("before the gate", 1)
        assert flows.asked == [fresh, ("soon", 1), used, ("soon", 1)]

    world.run(scenario)


def test_an_add_finishes_a_removal_that_is_owed_for_its_attachment_first(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        before = await running.add()
        running.node.records.retire(ATTACHMENT)  # a DEL that died after its first step
        after = await running.add()
        assert [ip["address"] for ip in before["ips"]] != [ip["address"] for ip in after["ips"]]
        assert len(await running.owned()) == 2
        assert list(running.node.records.unfinished()) == []

    world.run(scenario)


def test_what_an_add_that_died_left_is_removed_by_the_next(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.add()
        record = running.node.records.read(ATTACHMENT)
        assert record is not None
        running.node.records.write(msgspec.structs.replace(record, complete=False))
        await running.add()
        assert len(await running.owned()) == 2
        await running.delete()
        assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


def test_an_attachment_is_not_given_another_family_later_and_its_delete_frees_everything(world: World) -> None:
    async def scenario(running: Running) -> None:
        await fill(world.store, **POOLS)
        await running.add(ipam={"assign_ipv4": True})
        refused = await running.refused()
        assert "other addresses" in refused["msg"]
        await running.delete()
        assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


class SlowToWrite(Slow):
    """Only writes take their time; says when it is listed meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = asyncio.Event()

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        if not self.quick.is_set():
            self.listed.set()
        return await MemoryStore.list(self, kind, where)


def test_a_delete_frees_what_an_add_again_that_it_cancels_is_just_adopting(world: World) -> None:
    world.store = store = SlowToWrite()

    async def scenario(running: Running) -> None:
        await fill(store, **POOLS)
        await running.add()
        store.quick.clear()
        adding = asyncio.ensure_future(running.call("ADD"))
        await store.listed.wait()
        await idle()
        store.listed.clear()
        deleting = asyncio.ensure_future(running.call("DEL"))
        looking = asyncio.ensure_future(store.listed.wait())
        await asyncio.wait([looking], timeout=0.2)
        looking.cancel()
        await idle()
        store.quick.set()
        assert [(await adding).status, (await deleting).status] == [1, 0]
        await removals.ended(running.node)
        assert await running.owned() == []

    world.run(scenario)
    assert world.left() == NOTHING


async def idle() -> None:
    """Let everything go on that waits for no clock."""
    for _ in range(20):
        await asyncio.sleep(0)
