"""One host for each module: its agent says where it is (`cni.faults`), and bystanders talk all the while."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.bystanders import LABELS, Bystanders, bystanders
from tests.faults.left import Things, eventually_as, everything
from tests.faults.places import Places, places
from tests.faults.runtime import Container
from tests.host import Host, hosts


@dataclass
class Faulty:
    """A host on which things go wrong."""

    host: Host
    places: Places
    bystanders: Bystanders
    before: Things

    def container(self, pod: str = "new") -> Container:
        """A container of a pod that the policy isolates; never attached."""
        return Container.fresh(self.host, pod, LABELS)

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
    with hosts(place, start=False) as host, places(place / "places.sock") as server:
        host.start(env=server.environment)
        with bystanders(host) as talking:
            yield Faulty(host, server, talking, {})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with faulty(tmp_path_factory.mktemp("f")) as made:
        yield made


@pytest.fixture
def node(shared: Faulty) -> Iterator[Faulty]:
    """The module's host, as it is now: the test before may have failed, and this one is about its own leavings."""
    if shared.host.agent is None or shared.host.agent.poll() is not None:
        shared.start_agent()
    there = list(shared.host.pods)
    shared.before = everything(shared.host)
    yield shared
    for name in shared.host.pods[len(there) :]:
        subprocess.run(("ip", "netns", "del", name), check=True)
    shared.host.pods[:] = there
