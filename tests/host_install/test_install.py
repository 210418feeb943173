"""`host init` makes a node of a machine, with the real folders and the agent that it says how to start."""

import shlex
from pathlib import Path

import pytest

from agent.asking import status
from tests.faults.left import eventually
from tests.host import BIN
from tests.host_install.machine import INIT, machines
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
BOTH = (*INIT, "--pool", "fd65::/48")


def test_the_agent_is_started_by_the_command_that_init_prints_and_pods_get_both_families(tmp_path: Path) -> None:
    with machines(tmp_path) as machine:
        said = machine.ctl(*BOTH)
        (command,) = [line for line in said.err.splitlines() if "start it: " in line]
        assert "no agent serves" in said.err
        machine.start(*shlex.split(command.partition("start it: ")[2]))
        (line,) = machine.ctl(*BOTH).err.splitlines()
        controller = machine.begin(*shlex.split(line.partition("no controller runs; start it, too: ")[2]))
        eventually(lambda: bool((status(machine.state / "controller.sock") or {}).get("leads")))
        assert machine.ctl(*BOTH).err == ""
        added = machine.call("ADD", "c1", machine.pod().path)
        assert added.status == 0, added.out
        assert [one["address"][:4] for one in added.json["ips"]] == ["10.6", "fd65"]
        moved = machine.ctl("host", "init", "--datastore", "sqlite:///opt/other.db")
        assert "started with other options" in moved.err
        machine.stop()
        assert controller.poll() is not None


def test_a_controller_that_runs_is_ended_with_the_host_and_nothing_of_it_stays(tmp_path: Path) -> None:
    with machines(tmp_path) as machine:
        before = machine.files()
        machine.done(*INIT)
        controller = machine.begin(str(BIN / "tortie-controller"), "--datastore", machine.datastore)
        eventually(lambda: bool((status(machine.state / "controller.sock") or {}).get("leads")))
        removed = machine.done("host", "remove")
        assert "controller: ended" in removed
        assert "/var/lib/tortie/tortie.db: removed" in removed
        assert controller.wait(30) == 0
        assert machine.files() == before
