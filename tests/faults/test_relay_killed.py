"""The relay dies (SIGKILL: its runtime's deadline) at every place of ADD and of DEL, while the agent lives on."""

import pytest

from tests.faults.conftest import SIDE_BY_SIDE, Faulty
from tests.faults.places import ADD, DEL
from tests.faults.runtime import addresses, refusal
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
TRY_AGAIN = 11


@pytest.mark.parametrize("place", ADD)
def test_an_add_whose_relay_was_killed_is_undone_without_any_delete(node: Faulty, place: str) -> None:
    with node.places.stop(place) as stop:
        call = node.container().begin("ADD")
        stop.reached()
        call.kill()
    node.is_whole()


@pytest.mark.parametrize("place", DEL)
def test_a_delete_whose_relay_was_killed_comes_to_its_end(node: Faulty, place: str) -> None:
    container = node.container()
    container.add()
    with node.places.stop(place) as stop:
        call = container.begin("DEL")
        stop.reached()
        call.kill()
    node.is_whole()


def test_a_delete_that_comes_while_a_killed_add_is_still_on_its_way_succeeds(node: Faulty) -> None:
    with node.one_at_each("ADD", ADD) as kept:
        for _, call, _ in kept:
            call.kill()
        deletes = [container.begin("DEL") for container, _, _ in kept]
    for delete in deletes:
        said = delete.said()
        assert (said.status, said.out) == (0, "")
    node.is_whole()


def test_a_delete_ends_an_add_that_its_runtime_still_waits_for(node: Faulty) -> None:
    with node.one_at_each("ADD", ADD) as kept:
        deletes = [container.begin("DEL") for container, _, _ in kept]
        for _, call, stop in kept:
            if stop.place not in (*SIDE_BY_SIDE, "add checked"):
                assert refusal(call.said()) == TRY_AGAIN
    for delete in deletes:
        assert delete.said().status == 0
    for container, call, stop in kept:
        if stop.place in SIDE_BY_SIDE:
            assert refusal(call.said()) == TRY_AGAIN
        elif stop.place == "add checked":  # had nothing yet that the DEL could see: it came after it
            assert call.said().status == 0
            container.delete()
    node.is_whole()


def test_an_add_that_is_tried_again_while_a_killed_one_is_on_its_way_is_answered_for_itself(node: Faulty) -> None:
    with node.one_at_each("ADD", ADD) as kept:
        for _, call, _ in kept:
            call.kill()
        again = [container.begin("ADD") for container, _, _ in kept]
    for call in again:
        for address in addresses(call.said().json):
            assert node.bystanders.hears(node.bystanders.api, address) == "closed"
    for container, _, _ in kept:
        container.delete()
    node.is_whole()
