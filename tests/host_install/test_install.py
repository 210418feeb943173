"""`host init` makes a node of a machine, with the real folders and the agent that it says how to start."""

import shlex
from pathlib import Path

import pytest

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
        assert machine.ctl(*BOTH).err == ""
        added = machine.call("ADD", "c1", machine.pod().path)
        assert added.status == 0, added.out
        assert [one["address"][:4] for one in added.json["ips"]] == ["10.6", "fd65"]
        moved = machine.ctl("host", "init", "--datastore", "sqlite:///opt/other.db")
        assert "started with other options" in moved.err
