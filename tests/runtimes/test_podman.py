"""podman 4.3 with its CNI backend: `run` attaches, `rm` and a container's own end detach.

podman asks every plugin for its VERSION at each command, has no daemon, and cleans up after a container that ended by
itself from conmon, with an environment of conmon's.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host import DEBIAN_PLUGINS, INSIDE, Said, both_plugin_sets
from tests.runtimes import image, leftovers
from tests.runtimes.machine import BIN, Machine, until_empty
from tests.runtimes.programs import needs_podman
from tests.runtimes.traffic import answers, ping_of_host, tried

pytestmark = needs_podman
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
_CONTAINERS = f"""
[containers]
apparmor_profile = "unconfined"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{BIN}"]
default_network = "tortie"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"""
Podman = Callable[..., Said]


@pytest.fixture
def podman(machine: Machine, archive: Path) -> Podman:
    """Runs podman on the machine; it has the image."""
    machine.write("/etc/containers/containers.conf", _CONTAINERS)
    machine.write("/etc/containers/storage.conf", _STORAGE)
    machine.write("/etc/containers/policy.json", json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    machine.plugins(DEBIAN_PLUGINS, "portmap")
    machine.conflist(PORTMAP)
    machine.run("podman", "load", "-q", "-i", str(archive))

    def run(command: str, *arguments: str) -> Said:
        made = ("--cgroup-parent", machine.cgroup, "--cap-add", "NET_RAW") if command == "run" else ()
        return machine.said("podman", command, *made, *arguments)

    return run


def _addresses(podman: Podman, container: str) -> tuple[str, str]:
    said = podman("inspect", container)
    network: dict[str, Any] = json.loads(said.out)[0]["NetworkSettings"]
    return network["IPAddress"], network["GlobalIPv6Address"]


def test_a_container_has_addresses_reaches_its_host_and_frees_them_when_it_is_removed(
    machine: Machine, podman: Podman
) -> None:
    ran = podman("run", "-d", "--name", "c1", image.NAME)
    assert ran.status == 0, ran.err
    given = _addresses(podman, "c1")
    answers(machine.host, *given)
    until_empty(lambda: set(given) - set(leftovers.known(machine.host).endpoints))
    for family in (0, 1):
        pinged = podman("exec", "c1", *ping_of_host(family))
        assert pinged.status == 0, pinged.out + pinged.err
    removed = podman("rm", "-f", "-t", "0", "c1")
    assert (removed.status, removed.err) == (0, "")


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0"])
def test_a_network_of_an_older_version_serves_as_well(machine: Machine, podman: Podman, version: str) -> None:
    machine.conflist(PORTMAP, cniVersion=version)
    ran = podman("run", "-d", "--name", "c1", image.NAME)
    assert ran.status == 0, ran.err
    answers(machine.host, *_addresses(podman, "c1"))
    assert podman("rm", "-f", "-t", "0", "c1").status == 0


def test_a_container_that_ends_by_itself_frees_its_addresses(machine: Machine, podman: Podman) -> None:
    assert podman("run", "-d", "--name", "c1", image.NAME, "busybox", "true").status == 0
    leftovers.settle(machine)
    assert podman("rm", "c1").status == 0


@both_plugin_sets
def test_a_published_port_opens_with_the_container_and_closes_with_it(
    machine: Machine, podman: Podman, plugins: Path
) -> None:
    machine.plugins(plugins, "portmap")
    assert tried(machine.host, INSIDE[0], 8081) == "closed"
    ran = podman("run", "-d", "--name", "c1", "-p", f"8081:{image.PORT}", image.NAME)
    assert ran.status == 0, ran.err
    answers(machine.host, *INSIDE, port=8081)
    assert podman("rm", "-f", "-t", "0", "c1").status == 0
    assert [tried(machine.host, address, 8081) for address in INSIDE] == ["closed", "closed"]


def test_a_container_that_cannot_start_leaves_nothing(machine: Machine, podman: Podman) -> None:
    ran = podman("run", "--name", "c1", image.NAME, "/bin/no-such-program")
    assert ran.status == 127, ran.err
    assert "attached default/c1" in machine.log()
    leftovers.settle(machine)
    assert podman("rm", "c1").status == 0


def test_a_plugin_that_fails_after_ours_has_ours_undone(machine: Machine, podman: Podman) -> None:
    machine.conflist({**PORTMAP, "conditionsV4": ["--no-such-option"]})
    ran = podman("run", "--name", "c1", "-p", f"8081:{image.PORT}", image.NAME)
    assert ran.status != 0
    assert "no-such-option" in ran.err
    assert "attached default/c1" in machine.log()
    leftovers.settle(machine)
    assert podman("rm", "c1").status == 0


def test_a_container_is_removed_while_no_agent_runs(machine: Machine, podman: Podman) -> None:
    assert podman("run", "-d", "--name", "c1", image.NAME).status == 0
    machine.host.stop(signal.SIGKILL)
    removed = podman("rm", "-f", "-t", "0", "c1")
    assert (removed.status, removed.err) == (0, "")
    machine.host.start()


def test_without_an_agent_podman_says_so_and_starts_nothing(machine: Machine, podman: Podman) -> None:
    machine.host.stop()
    ran = podman("run", "--name", "c1", image.NAME)
    assert ran.status != 0
    assert "the tortie agent can't be reached" in ran.err
    machine.host.start()
    assert podman("rm", "c1").status == 0
