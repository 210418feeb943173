"""No byte, and then no file, is left where the agent keeps its records."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Faulty
from tests.faults.left import eventually
from tests.faults.places import ADD, DEL
from tests.faults.runtime import refusal
from tests.faults.stores import filling
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
Trouble = Callable[[Path], AbstractContextManager[None]]
TRY_AGAIN = 11
WROTE_ITS_RECORD = ("add completed", "add enforced")


@contextmanager
def no_file_left(folder: Path) -> Iterator[None]:
    """Every inode is taken."""
    made: list[Path] = []
    try:
        try:
            while True:
                made.append(folder / f"filler-{len(made)}")
                made[-1].touch()
        except OSError:
            made.pop()
        yield
    finally:
        for path in made:
            path.unlink()


no_room = pytest.mark.parametrize(
    "no_room", [pytest.param(filling, id="no byte left"), pytest.param(no_file_left, id="no file left")]
)


@no_room
def test_an_add_that_cannot_write_its_record_is_refused_and_leaves_nothing(node: Faulty, no_room: Trouble) -> None:
    with node.one_at_each("ADD", ADD) as kept:
        for container, call, stop in kept:
            with no_room(node.host.state):  # one at a time: what is undone makes room for others
                stop.go()
                said = call.said()
            if stop.place in WROTE_ITS_RECORD:
                assert said.status == 0
                container.delete()
            else:
                assert refusal(said) == TRY_AGAIN
    node.is_whole()


@no_room
def test_a_delete_on_its_way_when_the_room_runs_out_succeeds(node: Faulty, no_room: Trouble) -> None:
    with node.one_at_each("DEL", DEL) as kept:
        for container, call, stop in kept:
            with no_room(node.host.state):
                stop.go()
                said = call.said()
            if said.status:  # no lock could be taken: nothing was done, and the runtime comes again
                assert (stop.place, refusal(said)) == ("del checked", TRY_AGAIN)
                container.delete()
    node.is_whole()


def test_an_agent_starts_and_removes_what_it_owes_though_no_byte_is_left(node: Faulty) -> None:
    with node.one_at_each("DEL", DEL), filling(node.host.state):
        node.kill_agent()
        node.start_agent()
        eventually(lambda: not any((node.host.state / "journal").iterdir()))
    node.is_whole()
