"""`host remove` is the reverse of `host init` and of all that the agent did since; what is others' stays."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from datastore.urls import open_store
from tests.host_install.machine import INIT, Machine, machines
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db}\nspec: {podSelector: {}}\n"
OTHER = Node(metadata=Metadata(name="node-2"), spec=NodeSpec(machine="machine-2"))
BOTH = (*INIT, "--pool", "fd65::/48")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machines(tmp_path) as made:
        yield made


def attached(machine: Machine, container: str = "c1") -> Namespace:
    pod = machine.pod()
    added = machine.call("ADD", container, pod.path)
    assert added.status == 0, added.out
    return pod


def with_a_pod(machine: Machine) -> Namespace:
    machine.done(*BOTH)
    machine.start()
    return attached(machine)


def interfaces(pod: Namespace) -> set[str]:
    return {line.split("@")[0].split(" ")[0] for line in pod.run("ip", "-br", "link").splitlines()}


def test_a_machine_that_was_a_node_is_as_it_was_before(machine: Machine) -> None:
    files, kernel = machine.files(), machine.kernel()
    with_a_pod(machine)
    assert machine.call("DEL", "c1").status == 0
    now = machine.kernel() - kernel
    for word in ("TORTIE-FORWARD", "tt4-local", "blackhole", "ip_forward = 1", "ipv6.conf.all.forwarding = 1"):
        assert any(word in line for line in now), word
    said = machine.done("host", "remove")
    assert said.startswith("/etc/cni/net.d/10-tortie.conflist: removed\nagent: ended\n")
    assert machine.files() == files
    assert machine.kernel() == kernel
    assert machine.done("host", "remove").startswith("nothing to remove")


def test_attached_pods_are_kept_unless_force_detaches_them(machine: Machine) -> None:
    files, kernel = machine.files(), machine.kernel()
    pod = with_a_pod(machine)
    before = machine.installed(), machine.kernel()
    refused = machine.ctl("host", "remove")
    assert (refused.status, refused.out) == (1, "")
    assert "1 pods are attached: tortie:c1:eth0; --force detaches them" in refused.err
    assert (machine.installed(), machine.kernel()) == before
    assert interfaces(pod) == {"lo", "eth0"}
    assert "pod default/c1: detached" in machine.done("host", "remove", "--force")
    assert interfaces(pod) == {"lo"}
    assert (machine.files(), machine.kernel()) == (files, kernel)


def test_a_node_whose_agent_has_died_is_removed_with_what_is_owed(machine: Machine) -> None:
    files, kernel = machine.files(), machine.kernel()
    with_a_pod(machine)
    attached(machine, "c2")
    machine.stop()
    assert machine.call("DEL", "c1").status == 0  # a tombstone
    assert "tortie:c2:eth0" in machine.ctl("host", "remove").err
    machine.done("host", "remove", "--force")
    assert (machine.files(), machine.kernel()) == (files, kernel)


@pytest.mark.parametrize("line", [1, 8, 14])
def test_a_removal_that_was_killed_is_gone_on_with(machine: Machine, line: int) -> None:
    files, kernel = machine.files(), machine.kernel()
    with_a_pod(machine)
    killed_after(machine, line, "host", "remove", "--force")
    machine.done("host", "remove", "--force")
    assert (machine.files(), machine.kernel()) == (files, kernel)


@pytest.mark.parametrize("line", [1, 5, 10])
def test_an_init_that_was_killed_is_gone_on_with_or_removed(machine: Machine, line: int) -> None:
    before = machine.files()
    killed_after(machine, line, *BOTH)
    machine.done(*BOTH)
    assert machine.conflist.exists()
    machine.done("host", "remove")
    assert machine.files() == before
    killed_after(machine, line, *BOTH)
    machine.ctl("host", "remove")
    assert machine.files() == before


@pytest.mark.parametrize("then", [("host", "remove"), INIT], ids=["remove", "init"])
def test_a_state_folder_that_was_only_half_made_is_cleared_away(machine: Machine, then: tuple[str, ...]) -> None:
    half_made = machine.state.with_name(".tortie.new")
    half_made.mkdir()
    (half_made / ".installation.json.tmp").write_text("{")
    machine.done(*then)
    assert not half_made.exists()


def killed_after(machine: Machine, line: int, *arguments: str) -> None:
    """Kill tortiectl once it has said so many lines; it says each before the step, or right after."""
    command = machine.command("tortiectl", *arguments)
    with subprocess.Popen(command, env=machine.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as one:
        for _ in range(line):
            if one.stdout is not None:
                one.stdout.readline()
        one.kill()


def of_others_in_the_runtimes_folders(machine: Machine) -> list[Path]:
    folders = (machine.place / "opt/cni/bin", machine.conflist.parent)
    for folder in folders:
        (folder / "90-others.conf").write_text("{}")
    return [folder / "90-others.conf" for folder in folders]


def in_the_state_folder(machine: Machine) -> list[Path]:
    (machine.state / "notes").write_text("mine")
    return [machine.state / "notes"]


def a_policy(machine: Machine) -> list[Path]:
    machine.done("apply", "-f", "-", "--datastore", machine.datastore, stdin=POLICY)
    return [machine.state / "tortie.db"]


@pytest.mark.parametrize(
    "put", [of_others_in_the_runtimes_folders, in_the_state_folder, a_policy], ids=lambda put: put.__name__
)
def test_what_others_put_there_stays(machine: Machine, put: Callable[[Machine], list[Path]]) -> None:
    before = machine.files()
    machine.done(*BOTH)
    kept = put(machine)
    machine.done("host", "remove")
    assert all(path.exists() for path in kept)
    left = set(machine.files()) - set(before)
    expected = {path for one in kept for path in (one, *one.parents)}
    assert {path for path in left if not path.endswith("-journal")} <= {
        f"/{path.relative_to(machine.place)}" for path in expected if path.is_relative_to(machine.place)
    }


def test_a_datastore_with_policies_is_removed_when_told_to(machine: Machine) -> None:
    before = machine.files()
    machine.done(*BOTH)
    a_policy(machine)
    machine.done("host", "remove", "--purge")
    assert machine.files() == before


def test_a_datastore_that_another_node_uses_stays_whatever_is_said(machine: Machine) -> None:
    machine.done(*BOTH)
    asyncio.run(created(machine, OTHER))
    refused = machine.ctl("host", "remove", "--purge")
    assert (refused.status, refused.out) == (1, "")
    assert "other nodes use the datastore: node-2" in refused.err
    assert machine.conflist.exists()
    said = machine.done("host", "remove")
    assert "datastore: stays with its pools, for it has Node node-2\n" in said
    assert "10.65.0.0/16" in machine.done("get", "ippools", "--datastore", machine.datastore)


async def created(machine: Machine, node: Node) -> None:
    store = await open_store(f"sqlite://{machine.state}/tortie.db")
    await store.create(node)
    await store.close()


def test_an_address_taken_by_hand_keeps_its_block_and_the_datastore(machine: Machine) -> None:
    machine.done(*BOTH)
    machine.start()
    machine.done("ipam", "assign", "printer")
    said = machine.done("host", "remove")
    assert "stays, for it has addresses of others" in said
    assert "Node node-1: removed" in said
    assert "datastore: stays with its pools, for it has IPBlock" in said


def test_without_its_datastore_a_node_is_removed_only_by_force(machine: Machine) -> None:
    files, kernel = machine.files(), machine.kernel()
    with_a_pod(machine)
    machine.stop()
    (machine.state / "tortie.db").write_text("no database, and long enough to be seen as none by whoever opens it" * 9)
    before = machine.kernel()
    refused = machine.ctl("host", "remove")
    assert refused.status == 3
    assert "--force leaves" in refused.err
    assert machine.kernel() == before
    assert machine.conflist.exists()
    machine.done("host", "remove", "--force", "--purge")
    assert (machine.files(), machine.kernel()) == (files, kernel)
