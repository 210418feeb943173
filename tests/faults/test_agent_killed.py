"""The agent dies (SIGKILL) at every place of ADD and of DEL."""

import pytest

from tests.faults.conftest import Faulty
from tests.faults.places import ADD, DEL
from tests.faults.runtime import refusal
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
AWAY = 11


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
