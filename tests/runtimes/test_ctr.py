"""`ctr run --cni`: no CRI, no daemon behind the network; ctr itself is the runtime.

ctr gives CNI_NETNS as /proc/PID/ns/net for ADD and empty for DEL, and no CNI_ARGS.
"""

from pathlib import Path

import pytest

from tests.runtimes import image, leftovers
from tests.runtimes.containerd import SNAPSHOTTER, Containerd, containerd
from tests.runtimes.machine import Machine, until_empty
from tests.runtimes.programs import needs_containerd
from tests.runtimes.traffic import answers, ping_of_host

pytestmark = needs_containerd


@pytest.fixture
def daemon(machine: Machine, archive: Path) -> Containerd:
    machine.conflist()
    daemon = containerd(machine)
    daemon.load(archive, "default")
    return daemon


def test_a_container_has_addresses_and_frees_them_when_it_ends(machine: Machine, daemon: Containerd) -> None:
    made = ("--cni", "--snapshotter", SNAPSHOTTER, "--cgroup", f"{machine.cgroup}/c1")
    running = machine.start(*daemon.ctr_command("run", "--rm", *made, image.NAME, "c1"))
    until_empty(lambda: 2 - len(leftovers.known(machine.host).endpoints))
    answers(machine.host, *leftovers.known(machine.host).endpoints)
    for family in (0, 1):
        pinged = daemon.ctr("task", "exec", "--exec-id", f"ping{family}", "c1", *ping_of_host(family))
        assert pinged.status == 0, pinged.out + pinged.err
    killed = daemon.ctr("task", "kill", "--signal", "KILL", "c1")
    assert killed.status == 0, killed.err
    assert running.wait(30) == 137
    assert "detached tortie:default-c1:eth0" in machine.log()
