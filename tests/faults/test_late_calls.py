"""Calls that come late, twice or while nobody serves, and what they must not touch."""

import asyncio

import msgspec
import pytest

from datastore.resources.ipblock import IPBlock
from datastore.urls import open_store
from tests.faults.conftest import Faulty
from tests.faults.left import eventually, eventually_as, everything
from tests.faults.places import DEL
from tests.faults.runtime import addresses, refusal
from tests.faults.stores import locked
from tests.host import Host
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
TRY_AGAIN, NOT_AVAILABLE = 11, 50


def test_a_late_delete_of_an_old_container_touches_nothing_of_the_pods_new_one(node: Faulty) -> None:
    old = node.container()
    old.add()
    new = old.successor()
    result = new.add()
    old.delete()
    eventually(lambda: node.links() == {new.host_interface})
    there = everything(node.host)
    for _ in range(2):
        old.delete(netns="")
    assert everything(node.host) == there
    for address in addresses(result):
        assert node.bystanders.hears(node.bystanders.api, address) == "closed"
        assert node.bystanders.hears(node.bystanders.web, address, wait_s=0.3) == "silent"
    new.delete()
    node.is_whole()


def test_a_late_delete_that_was_left_as_a_tombstone_touches_nothing_of_the_new_container(node: Faulty) -> None:
    old = node.container()
    old.add()
    new = old.successor()
    new.add()
    node.kill_agent()
    old.delete(netns="")
    node.start_agent()
    eventually(lambda: node.links() == {new.host_interface})
    new.delete()
    node.is_whole()


def test_a_second_add_is_answered_like_the_first_also_by_another_agent(node: Faulty) -> None:
    container = node.container()
    first = container.add()
    eventually(node.is_published)
    there = everything(node.host)
    assert container.add() == first
    node.kill_agent()
    node.start_agent()
    assert container.add() == first
    assert {**everything(node.host), "files": []} == {**there, "files": []}, "but for the ids in its record"
    container.delete()
    node.is_whole()


def test_with_the_agent_away_a_delete_is_left_for_it_and_everything_else_says_so(node: Faulty) -> None:
    container = node.container()
    container.add()
    node.kill_agent()
    for _ in range(2):
        container.delete()
    assert container.refused("ADD") == container.refused("CHECK") == TRY_AGAIN
    assert container.refused("STATUS") == NOT_AVAILABLE
    said = container.begin("VERSION").said()
    assert (said.status, "1.1.0" in said.json["supportedVersions"]) == (0, True)
    node.start_agent()
    node.is_whole()


def test_an_agent_that_is_killed_over_its_tombstones_leaves_them_to_the_next(node: Faulty) -> None:
    containers = [node.container(f"new-{place}".replace(" ", "-")) for place in DEL[1:]]
    for container in containers:
        container.add()
    node.kill_agent()
    for container in containers:
        container.delete()
    for place in DEL[1:]:
        with node.places.stop(place) as stop:
            node.host.begin(env=node.places.environment)
            stop.reached()
            node.kill_agent()
    node.start_agent()
    node.is_whole()


def test_with_the_store_away_too_tombstones_and_the_journal_wait_for_both(node: Faulty) -> None:
    first, second = node.container("first"), node.container("second")
    for container in (first, second):
        container.add()
    with locked(node.host.database):
        first.delete()
        node.kill_agent()
        second.delete()
        first.delete()
    node.start_agent()
    node.is_whole()


def test_a_removal_that_is_owed_is_made_good_once_and_keeps_an_add_of_the_same_attachment_waiting(
    node: Faulty,
) -> None:
    container = node.container()
    container.add()
    eventually(node.is_published)  # or the removal waits for that write, which waits for the lock
    released = node.places.visits("del released")
    with locked(node.host.database):
        container.delete()
        assert refusal(container.begin("ADD").said()) == TRY_AGAIN
    eventually_as(node.before, node.host)
    assert node.places.visits("del released") == released + 1
    container.add()
    container.delete()
    node.is_whole()


@pytest.mark.parametrize("place", ["del journalled", "del down", "del dismissed"])
def test_an_address_that_has_another_owner_by_now_is_not_freed_by_the_journal(node: Faulty, place: str) -> None:
    container = node.container()
    container.add()
    with node.places.stop(place) as stop:
        container.begin("DEL")
        stop.reached()
        node.kill_agent()
    asyncio.run(give_to_another(node.host, container.id))
    owned = everything(node.host)["addresses"]
    node.start_agent()
    eventually(lambda: not list((node.host.state / "journal").iterdir()))
    assert everything(node.host)["addresses"] == owned
    asyncio.run(give_to_another(node.host, "another", None))
    node.is_whole()


async def give_to_another(host: Host, container: str, to: str | None = "other:another:eth0") -> None:
    """Allocations of a container become another's, under another id; or nobody's."""
    store = await open_store(host.datastore)
    for block in (await store.list(IPBlock)).items:
        found = {
            ordinal: msgspec.structs.replace(one, handle=to, id="0123456789abcdef")
            if to and f":{container}:" in one.handle
            else one
            for ordinal, one in block.spec.allocations.items()
            if to or f":{container}:" not in one.handle
        }
        await store.update(msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, allocations=found)))
    await store.close()
