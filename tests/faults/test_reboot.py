"""The machine boots: every namespace and link is gone, no DEL need ever come, and what survived is on disk alone."""

import subprocess

import pytest

from tests.faults.conftest import Faulty
from tests.faults.left import everything
from tests.faults.places import ADD
from tests.host import RELAY_IPAM
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
BELOW_ANOTHER = {"cniVersion": "1.0.0", "name": "other", "type": "another", "ipam": {"type": "tortie-ipam"}}


def take_namespaces(node: Faulty, left: int) -> None:
    """Everything that a reboot takes of the pods that came after the first few."""
    for name in node.host.pods[left:]:
        subprocess.run(("ip", "netns", "del", name), check=True)
    del node.host.pods[left:]


def boot(node: Faulty, boot_id: str) -> None:
    """The agent's start in this boot."""
    node.host.start(env={**node.places.environment, "TORTIE_BOOT_ID": boot_id})


def test_a_reboot_frees_every_attachment_that_is_gone_and_no_other(node: Faulty) -> None:
    node.kill_agent()
    boot(node, "first")
    there = len(node.host.pods)
    node.container("whole").add()
    lent = node.host.pod()
    said = node.host.call("ADD", BELOW_ANOTHER, "lent", lent.path, program=(str(RELAY_IPAM),))
    assert said.status == 0, said.out
    with node.one_at_each("ADD", ADD):
        node.kill_agent()
    take_namespaces(node, there)
    boot(node, "second")
    node.is_whole()


def test_a_reboot_frees_what_no_record_names_any_more(node: Faulty) -> None:
    """Records aren't synced: a machine that lost power may have lost them, and half of one may be there."""
    node.kill_agent()
    boot(node, "first")
    there = len(node.host.pods)
    before = {path.name for path in (node.host.state / "attachments").iterdir()}
    for name in ("lost", "torn"):
        node.container(name).add()
    node.kill_agent()
    lost, torn = (path for path in (node.host.state / "attachments").iterdir() if path.name not in before)
    lost.unlink()
    torn.write_bytes(b"")
    (node.host.state / "handles" / "0123456789").touch()
    take_namespaces(node, there)
    boot(node, "second")
    node.is_whole()


def test_within_one_boot_a_pod_whose_link_is_gone_is_left_to_its_delete(node: Faulty) -> None:
    node.kill_agent()
    boot(node, "first")
    container = node.container()
    container.add()
    owned = everything(node.host)["addresses"]
    node.kill_agent()
    node.host.namespace.run("ip", "link", "del", container.host_interface)
    boot(node, "first")
    assert everything(node.host)["addresses"] == owned
    container.delete()
    node.is_whole()


def test_an_agent_that_is_killed_while_it_frees_what_a_reboot_took_begins_again(node: Faulty) -> None:
    node.kill_agent()
    boot(node, "first")
    there = len(node.host.pods)
    for name in ("one", "two", "three"):
        node.container(name).add()
    node.kill_agent()
    take_namespaces(node, there)
    with node.places.stop("del dismissed", nth=2) as stop:
        node.host.begin(env={**node.places.environment, "TORTIE_BOOT_ID": "second"})
        stop.reached()
        node.kill_agent()
    boot(node, "second")
    node.is_whole()
