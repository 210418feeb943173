"""`node cleanup` on a node that no `host init` made: links, routes, rules, sets, settings, files are as before."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import BIN, RELAY
from tests.host_install.machine import INIT, Machine, machines
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
POOLS = "\n---\n".join(
    f"apiVersion: tortie.dev/v1\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: '{cidr}'}}"
    for name, cidr in (("v4", "10.65.0.0/16"), ("v6", "fd65::/48"))
)
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "tortie",
    "plugins": [{"type": "tortie", "policy": {"type": "k8s"}, "ipam": {"type": "tortie-ipam", "assign_ipv6": True}}],
}
OTHERS = {"cniVersion": "1.0.0", "name": "others", "plugins": [{"type": "bridge"}]}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machines(tmp_path, folders=("etc/cni/net.d", "opt/cni/bin")) as made:
        yield made


def a_node(machine: Machine) -> None:
    """As Kubernetes' objects make one: the plugin installed, the agent started, the conflist written by hand here."""
    datastore = f"sqlite://{machine.place}/store.db"
    machine.done("apply", "-f", "-", "--datastore", datastore, stdin=POOLS)
    machine.done("node", "install", "--bin-dir", "/opt/cni/bin", "--from", str(RELAY.parent))
    options = ("--node", "node-1", "--node-ip", "172.30.0.1", "--node-ip", "fd30::1", "--datastore", datastore)
    machine.start(str(BIN / "tortie-agent"), *options)
    machine.conflist.write_text(json.dumps(NETWORK))


def with_a_pod(machine: Machine) -> None:
    a_node(machine)
    added = machine.call("ADD", "c1", machine.pod().path)
    assert added.status == 0, added.out


def test_everything_is_as_before_and_what_others_have_stays(machine: Machine) -> None:
    machine.conflist.with_name("20-others.conflist").write_text(json.dumps(OTHERS))
    (machine.place / "opt/cni/bin/bridge").write_text("others'")
    files, kernel = machine.files(), machine.kernel()
    with_a_pod(machine)
    now = "\n".join(machine.kernel() - kernel)
    for word in ("TORTIE-FORWARD", "tt4-local", "tt6-local", "blackhole", "ip_forward = 1", "tort"):
        assert word in now, word
    machine.stop()
    said = machine.ctl("node", "cleanup")
    assert said.status == 0, said.err
    assert "1 pods have no network without it, delete them: default/c1" in said.err
    assert machine.files() == files
    assert machine.kernel() == kernel
    assert machine.done("node", "cleanup") == "nothing to remove\n"


def test_a_dry_run_lists_exactly_what_goes_and_changes_nothing(machine: Machine) -> None:
    with_a_pod(machine)
    machine.stop()
    before = machine.files(), machine.kernel()
    shown = machine.done("node", "cleanup", "--dry-run")
    assert (machine.files(), machine.kernel()) == before
    assert shown.replace(": would be ", ": ") == machine.done("node", "cleanup")
    assert "/var/lib/tortie: would be removed" in shown


def test_while_an_agent_runs_nothing_is_changed_unless_force_ends_it(machine: Machine) -> None:
    files, kernel = machine.files(), machine.kernel()
    a_node(machine)
    before = machine.installed(), machine.kernel()
    refused = machine.ctl("node", "cleanup")
    assert (refused.status, refused.out) == (1, "")
    assert "an agent runs here" in refused.err
    assert "kubectl -n tortie-system delete daemonset tortie-agent" in refused.err
    assert (machine.installed(), machine.kernel()) == before
    assert "agent: ended\n" in machine.done("node", "cleanup", "--force")
    assert (machine.files(), machine.kernel()) == (files, kernel)


def test_a_host_that_init_made_a_node_is_left_to_host_remove(machine: Machine) -> None:
    machine.done(*INIT)
    before = machine.files()
    refused = machine.ctl("node", "cleanup", "--force")
    assert refused.status == 1
    assert "tortiectl host remove" in refused.err
    assert machine.files() == before


def test_what_only_has_our_names_and_isnt_ours_stays_and_is_told(machine: Machine) -> None:
    (machine.place / "opt/cni/bin/tortie").write_text("#!/bin/sh\n")
    machine.conflist.write_text(json.dumps(OTHERS))
    machine.conflist.with_name("50-mine.conflist").write_text(json.dumps(NETWORK))
    machine.state.mkdir()
    (machine.state / "notes").write_text("mine")
    before = machine.files()
    said = machine.ctl("node", "cleanup")
    assert said.status == 0
    assert "/opt/cni/bin/tortie stays: it is no program of ours" in said.err
    assert "50-mine.conflist calls our plugin and isn't ours" in said.err
    assert "/var/lib/tortie: stays, for it isn't empty: notes" in said.out
    assert machine.files() == before
