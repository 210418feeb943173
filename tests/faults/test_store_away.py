"""The store can't be written, from any place of ADD and of DEL on, and is back later."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.faults.conftest import Faulty
from tests.faults.left import eventually
from tests.faults.places import ADD, DEL
from tests.faults.runtime import refusal
from tests.faults.stores import troubles
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
Trouble = Callable[[Path], AbstractContextManager[None]]
TRY_AGAIN = 11
BEFORE_THE_ADDRESS = ("add checked", "add recorded", "add before address")


@troubles
def test_an_add_before_whose_address_the_store_went_is_refused_and_any_other_succeeds(
    node: Faulty, trouble: Trouble
) -> None:
    with node.one_at_each("ADD", ADD) as kept, trouble(node.host.database):
        for _, _, stop in kept:
            stop.go()
        said = {stop.place: call.said() for _, call, stop in kept}
        for place in BEFORE_THE_ADDRESS:
            assert refusal(said[place]) == TRY_AGAIN
        assert {place for place in ADD if said[place].status == 0} == set(ADD) - set(BEFORE_THE_ADDRESS)
        for container, _, stop in kept:
            if stop.place in BEFORE_THE_ADDRESS:
                container.delete()
    for container, _, stop in kept:
        if stop.place not in BEFORE_THE_ADDRESS:
            container.delete()
    successor = node.container()
    successor.add()
    successor.delete()
    node.is_whole()


@troubles
def test_a_delete_succeeds_wherever_the_store_goes_and_its_address_is_freed_once_it_is_back(
    node: Faulty, trouble: Trouble
) -> None:
    with node.one_at_each("DEL", DEL) as kept, trouble(node.host.database):
        for _, call, stop in kept:
            stop.go()
            assert call.said().status == 0
        eventually(lambda: node.links() == set())
        for container, _, _ in kept:
            container.delete(netns="")
        node.bystanders.did_not_notice()
    node.is_whole()
