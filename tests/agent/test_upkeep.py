"""What an agent does now and then, once due: ADDs that died, owed removals, idle groups."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.upkeep import forget_idle_groups, free_lost, pay_once, undo_abandoned, undo_incomplete
from cni import removals
from cni.records import Record
from cni.tombstones import Tombstones
from policy.model import EndpointId
from tests.agent.test_dataplane import DB_FROM_API, Node
from tests.cni.node import ATTACHMENT, Endpoints, Running, World, fill, worlds
from tests.sandbox import needs_sandbox


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path) as made:
        yield made


async def half_done(running: Running) -> None:
    """An attachment whose record says that its ADD has not ended."""
    await fill(running.world.store, v4="10.65.0.0/24", v6="fd65::/64")
    await running.add()
    record = running.node.records.read(ATTACHMENT)
    assert record is not None
    running.node.records.write(msgspec.structs.replace(record, complete=False))


@needs_sandbox
@pytest.mark.kernel
def test_an_add_that_died_half_way_is_undone(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await half_done(running)
        await undo_incomplete(running.node)
        await removals.ended(running.node)
        return await running.owned()

    assert world.run(scenario) == []


@needs_sandbox
@pytest.mark.kernel
def test_what_is_owed_waits_when_no_lock_can_be_made_for_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(running: Running) -> list[str]:
        await half_done(running)
        handles = world.state / "handles"
        handles.rename(world.state / "elsewhere")
        assert await undo_incomplete(running.node) == 1
        running.node.records.retire(ATTACHMENT)
        await pay_once(running.node, Tombstones(world.state / "cni.sock"))
        assert "still waits" in caplog.text
        (world.state / "elsewhere").rename(handles)
        await pay_once(running.node, Tombstones(world.state / "cni.sock"))
        return await running.owned()

    caplog.set_level("INFO")
    assert world.run(scenario) == []


class Meanwhile(Endpoints):
    """While one pod's endpoint is withdrawn, another's ADD ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: Callable[[], None] = lambda: None

    async def withdraw(self, record: Record) -> None:
        self.ends()
        await super().withdraw(record)


@needs_sandbox
@pytest.mark.kernel
def test_an_add_that_ended_since_it_was_listed_is_left_alone(world: World) -> None:
    world.endpoints = endpoints = Meanwhile()

    async def scenario(running: Running) -> list[str]:
        await half_done(running)
        await running.add(container="c2", pod=1)
        records = {record.container_id: record for record in running.node.records.all()}
        incomplete = {key: msgspec.structs.replace(record, complete=False) for key, record in records.items()}
        for record in incomplete.values():
            running.node.records.write(record)

        def others_end() -> None:
            undone = endpoints.told[-1:] or [""]
            for key, record in incomplete.items():
                if running.node.records.read(record.attachment) is not None and f"withdraw {key}" not in undone:
                    running.node.records.write(msgspec.structs.replace(record, complete=True))

        endpoints.ends = others_end
        assert await undo_incomplete(running.node) == 0
        return await running.owned()

    assert len(world.run(scenario)) == 2, "one was undone, the other had ended by then"


@needs_sandbox
@pytest.mark.kernel
def test_an_add_that_is_under_way_is_left_alone(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await half_done(running)
        async with running.node.handles.hold(ATTACHMENT.handle):
            async with asyncio.timeout(1):
                await undo_incomplete(running.node)
        return await running.owned()

    assert world.run(scenario) == [ATTACHMENT.handle] * 2


async def without_its_record(running: Running) -> None:
    """An attachment of which the store and the kernel know, and a lock with an intent."""
    await half_done(running)
    async with running.node.handles.hold(ATTACHMENT.handle) as hold:
        hold.intend()
    running.node.records.retire(ATTACHMENT)
    running.node.records.drop(ATTACHMENT)


@needs_sandbox
@pytest.mark.kernel
def test_what_an_attachment_without_a_record_may_have_is_undone(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await without_its_record(running)
        await undo_abandoned(running.node)
        return await running.owned()

    assert world.run(scenario) == []
    assert world.left() == {"links": [], "routes": [], "files": [], "pods": []}


@needs_sandbox
@pytest.mark.kernel
def test_an_intent_with_a_record_or_of_a_hand_is_left_alone(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await half_done(running)
        for handle in (ATTACHMENT.handle, "manual/printer"):
            async with running.node.handles.hold(handle) as hold:
                hold.intend()
        await undo_abandoned(running.node)
        return await running.owned()

    assert world.run(scenario) == [ATTACHMENT.handle] * 2
    assert len(list(world.state.glob("handles/*"))) == 2


@needs_sandbox
@pytest.mark.kernel
def test_half_of_a_record_goes_unless_somebody_is_writing_it(world: World) -> None:
    async def scenario(running: Running) -> list[str]:
        await half_done(running)
        (record,) = world.state.glob("attachments/*.json")
        record.with_suffix(".tmp").write_text("ha")
        (world.state / "journal" / "of-the-dead.tmp").write_text("lf")
        async with running.node.handles.hold(ATTACHMENT.handle):
            await undo_abandoned(running.node)
            return sorted(path.suffix for path in (world.state / "attachments").iterdir())

    assert world.run(scenario) == [".json", ".tmp"]
    assert list((world.state / "journal").iterdir()) == []


async def test_chains_and_sets_of_a_group_without_pods_go_after_a_while_and_not_at_once() -> None:
    node = Node()
    node.compiler.set_policy(DB_FROM_API)
    node.pod("web", "web", 2)
    await node.dataplane.start()
    before = node.held()
    node.pod("db", "db", 1)
    await node.dataplane.settled()
    with_group = node.held()[1]
    node.compiler.remove_endpoint(EndpointId("shop/db"), keep_group=True)
    await node.dataplane.settled()
    assert node.held()[1] == with_group
    forgetting = asyncio.create_task(forget_idle_groups(node.compiler, node.dataplane, 0.01))
    async with asyncio.timeout(10):
        while node.held() != before:
            await asyncio.sleep(0.01)
    forgetting.cancel()


@needs_sandbox
@pytest.mark.kernel
def test_an_attachment_whose_link_has_long_been_gone_is_freed_without_a_del(world: World) -> None:
    async def scenario(running: Running) -> tuple[list[str], list[str]]:
        await fill(running.world.store, v4="10.65.0.0/24", v6="fd65::/64")
        await running.add()
        await running.add(container="c2", pod=1)
        record = running.node.records.read(ATTACHMENT)
        assert record is not None
        running.world.namespace.ip(f"link del {record.host_interface}")
        now = 0.0
        freeing = asyncio.create_task(free_lost(running.node, lambda: 600, 0.01, lambda: now))
        await asyncio.sleep(0.1)
        early = await running.owned()
        now = 601.0
        while len(await running.owned()) > 2:
            await asyncio.sleep(0.01)
        freeing.cancel()
        return early, await running.owned()

    early, late = world.run(scenario)
    assert early == ["net:c1:eth0"] * 2 + ["net:c2:eth0"] * 2
    assert late == ["net:c2:eth0"] * 2
