"""One host for each module: its agent says where it is (`cni.faults`), and bystanders talk all the while."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.bystanders import LABELS, Bystanders, bystanders
from tests.faults.left import Things, eventually, eventually_as, everything
from tests.faults.places import Places, Stop, places
from tests.faults.runtime import Call, Container
from tests.faults.stores import small_disk
from tests.host import Host, hosts

SIDE_BY_SIDE = {
    "add before pair": "add assigned",
    "add before address": "add before pair",
    "add assigned": "add before pair",
}
"""What else a call comes to while it is kept at a place, at some time: awaited, lest another's stop meets it."""


class Kept(NamedTuple):
    """A call of a container, kept at a place."""

    container: Container
    call: Call
    stop: Stop


@dataclass
class Faulty:
    """A host on which things go wrong."""

    host: Host
    places: Places
    bystanders: Bystanders
    before: Things
    calls: list[Call] = field(default_factory=list)

    def container(self, pod: str = "new") -> Container:
        """A container of a pod that the policy isolates; never attached."""
        return Container(self.host, pod, LABELS, self.host.pod(), self.calls)

    @contextmanager
    def one_at_each(self, command: str, names: Sequence[str]) -> Iterator[list[Kept]]:
        """At each of these places a container of its own is kept on its way; all go on at the end of the block."""
        kept: list[Kept] = []
        containers = [self.container(f"new-{place.replace(' ', '-')}") for place in names]
        if command == "DEL":
            for container in containers:
                container.add()
        with ExitStack() as stops:
            for place, container in zip(names, containers, strict=True):
                beside = SIDE_BY_SIDE.get(place, place)
                visits = self.places.visits(beside)
                stop = stops.enter_context(self.places.stop(place))
                kept.append(Kept(container, container.begin(command), stop))
                stop.reached()
                eventually(partial(self._came_to, beside, visits))
            yield kept

    def links(self) -> set[str]:
        """Host ends that are there and were not before the test."""
        there = {row["ifname"] for row in self.host.shown("link") if row["ifname"].startswith("tort")}
        return there - set(self.before["links"])

    def is_published(self) -> bool:
        """Whether the store knows of more pods than before the test: endpoints are written beside the answer."""
        return len(everything(self.host)["endpoints"]) > len(self.before["endpoints"])

    def _came_to(self, place: str, visits: int) -> bool:
        return self.places.visits(place) > visits

    def kill_agent(self) -> None:
        """SIGKILL."""
        assert self.host.agent is not None
        self.host.agent.kill()
        self.host.agent.wait()

    def start_agent(self) -> None:
        """An agent beside what an earlier one left."""
        self.host.start(env=self.places.environment)

    def is_whole(self) -> None:
        """Nothing is left that has no pod, and no bystander lost anything."""
        eventually_as(self.before, self.host)
        self.bystanders.did_not_notice()


@contextmanager
def faulty(place: Path) -> Iterator[Faulty]:
    """A faulty host at `place`."""
    with ExitStack() as stack:
        stack.enter_context(small_disk(place / "store"))
        stack.enter_context(small_disk(place / "node"))
        host = stack.enter_context(hosts(place, start=False))
        server = stack.enter_context(places(place / "places.sock"))
        host.start(env=server.environment)
        with bystanders(host) as talking:
            eventually(lambda: len(everything(host)["endpoints"]) == len(host.pods))  # written beside the answers
            yield Faulty(host, server, talking, everything(host))


class Keeper:
    """A faulty host for many tests; one on which a test failed is replaced."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._stack = ExitStack()
        self._node: Faulty | None = None

    def whole(self) -> Faulty:
        """A host on which nothing is but its bystanders."""
        if self._node is not None and everything(self._node.host) != self._node.before:
            self.close()
        if self._node is None:
            self._node = self._stack.enter_context(faulty(self._factory.mktemp("f")))
        if self._node.host.agent is None or self._node.host.agent.poll() is not None:
            self._node.start_agent()
        return self._node

    def close(self) -> None:
        """Remove it."""
        self._stack.close()
        self._node = None


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    made = Keeper(tmp_path_factory)
    yield made
    made.close()


@pytest.fixture
def node(keeper: Keeper) -> Iterator[Faulty]:
    found = keeper.whole()
    there = list(found.host.pods)
    yield found
    while found.calls:
        found.calls.pop().kill()
    for name in found.host.pods[len(there) :]:
        subprocess.run(("ip", "netns", "del", name), check=True)
    found.host.pods[:] = there
