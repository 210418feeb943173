"""A node's witnesses, asked for real: its files and its kernel; and what is regained when its Node was gone."""

import asyncio
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from agent.reclaim import NodeWitness
from agent.regain import regain_all
from cni.records import HeldAddress, Record, Records
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from ipam.allocator import Wanted
from ipam.block import Among, Block, Owner
from ipam.reclaim_own import OwnReclaim
from tests.cni.node import ATTACHMENT, Running, World, fill, worlds
from tests.ipam.world import Clock
from tests.sandbox import needs_sandbox

HANDLE, ADDRESS = ATTACHMENT.handle, ip_address("10.65.0.7")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path) as made:
        yield made


def record(address: str = "10.65.0.7", *, complete: bool = True, container: str = "c1") -> Record:
    held = (HeldAddress("10-65-0-0-26", 7, "0" * 16, address),) if address else ()
    return Record(
        network="net", container_id=container, interface="eth0", host_interface="tort0", held=held, complete=complete
    )


class TestFiles:
    @pytest.fixture
    def records(self, tmp_path: Path) -> Records:
        return Records(tmp_path)

    def test_an_address_is_recorded_by_whatever_attachment_has_it(self, records: Records) -> None:
        witness = NodeWitness(records, list)
        assert not witness.recorded(HANDLE, ADDRESS)
        records.write(record(container="c9"))
        assert witness.recorded(HANDLE, ADDRESS)
        assert not witness.recorded(HANDLE, ADDRESS + 1)

    def test_one_in_memory_is_found_without_its_file(self, records: Records) -> None:
        witness = NodeWitness(records, lambda: [record()])
        assert not witness.recorded(HANDLE, ADDRESS)
        witness.look_again()
        assert witness.recorded(HANDLE, ADDRESS)

    @pytest.mark.parametrize("journalled", [False, True])
    def test_an_attachment_on_its_way_in_or_out_may_have_any_address(self, records: Records, journalled: bool) -> None:
        witness = NodeWitness(records, list)
        records.write(record("", complete=journalled))
        if journalled:
            records.retire(ATTACHMENT)
        assert witness.recorded(HANDLE, ADDRESS)
        assert witness.recorded(HANDLE, None)

    def test_an_attachment_that_is_there_has_only_its_own(self, records: Records) -> None:
        witness = NodeWitness(records, list)
        records.write(record("10.65.0.9"))
        assert not witness.recorded(HANDLE, ADDRESS)
        assert witness.recorded(HANDLE, None)


async def claimed(running: Running) -> None:
    spec = NodeSpec(machine="machine-1")
    await running.world.store.create(Node(metadata=Metadata(name="node-1"), spec=spec))
    await fill(running.world.store, v4="10.65.0.0/24", v6="fd65::/64")


async def looked(running: Running, seconds: int) -> list[str]:
    """What reclaim does in so many seconds of its own clock."""
    clock, node = Clock(), running.node
    witness = NodeWitness(node.records, list)
    own = OwnReclaim(
        running.world.store, node.allocator, node.handles, witness, node="node-1", machine="machine-1", clock=clock
    )
    done: list[str] = []
    for _ in range(seconds // 10):
        witness.look_again()
        done += await own.look(ClusterConfigurationSpec(reclaim_grace_seconds=30))
        clock.now += 10
    return done


@needs_sandbox
@pytest.mark.kernel
def test_addresses_of_a_record_that_was_lost_come_back_once_the_kernel_has_no_route_to_them(world: World) -> None:
    async def scenario(running: Running) -> tuple[list[str], list[str], list[str]]:
        await claimed(running)
        await running.add()
        found = running.node.records.read(ATTACHMENT)
        assert found is not None
        recorded = await looked(running, 120)
        for path in (world.state / "attachments").iterdir():
            path.unlink()
        routed = await looked(running, 120)
        world.namespace.ip(f"link del {found.host_interface}")
        return recorded, routed, await looked(running, 60)

    recorded, routed, done = world.run(scenario)
    assert (recorded, routed) == ([], [])
    assert len(done) == 2
    assert all(line.startswith("reclaimed ") for line in done)


class TestRegain:
    """Both families are told under new ids, and the record with them."""

    @needs_sandbox
    @pytest.mark.kernel
    def test_everything_is_regained_where_the_node_was_gone(self, world: World) -> None:
        async def scenario(running: Running) -> tuple[set[str], set[str], set[str]]:
            await claimed(running)
            await running.add()
            before = await ids(running)
            assert await regain_all(running.node, everything=True) == 0
            return before, await ids(running), recorded(running)

        before, after, written = world.run(scenario)
        assert (len(before), before & after, after) == (2, set(), written)
        assert list(world.state.glob("handles/*")) == [], "no write is in flight"

    @needs_sandbox
    @pytest.mark.kernel
    def test_what_the_store_has_right_is_left_alone(self, world: World) -> None:
        async def scenario(running: Running) -> tuple[set[str], set[str]]:
            await claimed(running)
            await running.add()
            before = await ids(running)
            await regain_all(running.node, everything=False)
            return before, await ids(running)

        before, after = world.run(scenario)
        assert before == after

    @needs_sandbox
    @pytest.mark.kernel
    def test_what_was_freed_is_assigned_again_and_what_is_anothers_is_told(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario(running: Running) -> list[str]:
            await claimed(running)
            await running.add()
            found = running.node.records.read(ATTACHMENT)
            assert found is not None
            await running.node.allocator.release_handle(HANDLE)
            only = Among.only(found.addresses[1])
            async with running.node.handles.hold("net:c9:eth0") as hold:
                await running.node.allocator.assign(Owner("net:c9:eth0", "node-1"), Wanted((6,), {}, {6: only}), hold)
            assert await regain_all(running.node, everything=False) == 0
            assert f"speaks with {found.addresses[1]}, which isn't its own any more" in caplog.text
            again = running.node.records.read(ATTACHMENT)
            assert again is not None
            assert again.addresses == found.addresses
            return await running.owned()

        assert world.run(scenario) == [HANDLE, "net:c9:eth0"]

    @needs_sandbox
    @pytest.mark.kernel
    def test_a_store_that_refuses_is_tried_again(self, world: World) -> None:
        async def scenario(running: Running) -> tuple[int, int]:
            await claimed(running)
            await running.add()
            frozen = await freeze(running, "m")
            refused = await regain_all(running.node, everything=True)
            await freeze(running, "")
            assert frozen == 2
            return refused, await regain_all(running.node, everything=True)

        assert world.run(scenario) == (1, 0)


async def freeze(running: Running, by: str) -> int:
    blocks = (await running.world.store.list(IPBlock)).items
    for block in blocks:
        spec = msgspec.structs.replace(block.spec, frozen=by)
        await running.world.store.update(msgspec.structs.replace(block, spec=spec))
    await asyncio.sleep(0)
    return len(blocks)


async def ids(running: Running) -> set[str]:
    blocks = (await running.world.store.list(IPBlock)).items
    return {found.id for one in blocks for found in Block.read(one).record.spec.allocations.values()}


def recorded(running: Running) -> set[str]:
    found = running.node.records.read(ATTACHMENT)
    return {one.id for one in found.held} if found is not None else set()
