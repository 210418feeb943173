"""The machines that runtimes run on keep to themselves, and what a container leaves there is seen."""

from pathlib import Path

import pytest

from tests.host import Host
from tests.runtimes.machine import machines

FOLDERS = ("run", "etc", "etc/cni", "etc/containers", "opt", "opt/cni", "var/lib", "var/lib/cni", "dev/shm")


@pytest.mark.parametrize(
    ("left", "by"),
    [
        pytest.param("process sleep", "setsid sleep 1000 >/dev/null 2>&1 &", id="a process"),
        pytest.param("mount /srv", "mount -t tmpfs tmpfs /srv", id="a mount"),
        pytest.param("netns pod", "touch /run/netns/pod", id="a network namespace"),
    ],
)
def test_what_a_container_leaves_is_seen(host: Host, left: str, by: str) -> None:
    with machines(host) as machine:
        assert machine.left() == []
        machine.run("sh", "-c", by)
        assert machine.left() == [left]


def test_what_is_made_on_a_machine_ends_with_it(host: Host) -> None:
    v1 = Path("/sys/fs/cgroup/memory")
    with machines(host) as machine:
        cgroup = Path(f"{v1 if v1.is_dir() else v1.parent}{machine.cgroup}/c1")
        machine.run("mkdir", "-p", str(cgroup))
        assert machine.left() == [str(cgroup)]
        for folder in FOLDERS:
            machine.write(f"/{folder}/tortie-test", "")
        machine.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &")
        machine.start("sleep", "1000")
    assert [folder for folder in FOLDERS if Path(f"/{folder}/tortie-test").exists()] == []
    assert machine.processes() == []
    assert not cgroup.parent.exists()
