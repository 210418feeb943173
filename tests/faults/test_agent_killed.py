"""The agent dies (SIGKILL) at every place of ADD and of DEL."""

import pytest

from tests.faults.conftest import Faulty
from tests.faults.left import eventually
from tests.faults.places import ADD, DEL
from tests.faults.runtime import addresses, refusal
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
AWAY = 11
COMPLETE = ("add completed", "add enforced")


@pytest.mark.parametrize("place", ADD)
def test_an_add_whose_agent_was_killed_is_undone_by_its_delete_and_the_next_container_is_attached(
    node: Faulty, place: str
) -> None:
    container = node.container()
    with node.places.stop(place) as stop:
        call = container.begin("ADD")
        stop.reached()
        node.kill_agent()
    assert refusal(call.said()) == AWAY
    container.delete()
    node.start_agent()
    successor = container.successor()
    successor.add()
    successor.delete()
    container.delete(netns="")
    node.is_whole()


@pytest.mark.parametrize("place", DEL)
def test_a_delete_whose_agent_was_killed_is_finished_by_the_next_agent(node: Faulty, place: str) -> None:
    container = node.container()
    container.add()
    with node.places.stop(place) as stop:
        call = container.begin("DEL")
        stop.reached()
        node.kill_agent()
    assert call.said().status == 0
    node.start_agent()
    node.is_whole()
    container.delete(netns="")
    node.is_whole()


def test_adds_whose_agent_was_killed_anywhere_succeed_when_they_are_tried_again(node: Faulty) -> None:
    with node.one_at_each("ADD", ADD) as kept:
        node.kill_agent()
    node.start_agent()
    for container, call, _ in kept:
        assert refusal(call.said()) == AWAY
        for address in addresses(container.add()):
            assert node.bystanders.hears(node.bystanders.api, address) == "closed"
    for container, _, _ in kept:
        container.delete()
    node.is_whole()


def test_adds_whose_agent_was_killed_are_undone_by_the_next_agent_unless_they_were_complete(node: Faulty) -> None:
    with node.one_at_each("ADD", ADD) as kept:
        node.kill_agent()
    node.start_agent()
    complete = {container.host_interface for container, _, stop in kept if stop.place in COMPLETE}
    eventually(lambda: node.links() == complete)
    for container, call, _ in kept:
        assert refusal(call.said()) == AWAY
        container.delete()
    node.is_whole()


def test_containers_whose_delete_lost_its_agent_anywhere_can_be_attached_again(node: Faulty) -> None:
    with node.one_at_each("DEL", DEL) as kept:
        node.kill_agent()
    node.start_agent()
    for container, call, _ in kept:
        assert call.said().status == 0
        container.add()
    for container, _, _ in kept:
        container.delete()
    node.is_whole()
