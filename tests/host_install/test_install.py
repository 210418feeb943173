"""`host init` makes a node of a machine, and `host remove` makes the machine as it was."""

from pathlib import Path

import pytest

from tests.host_install.machine import machines
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
INIT = ("host", "init", "--pool", "10.65.0.0/16", "--node", "node-1", "--node-ip", "172.30.0.1")


def test_a_node_is_made_has_pods_and_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    with machines(tmp_path) as machine:
        files, kernel = machine.files(), machine.kernel()
        machine.done(*INIT, "--pool", "fd65::/48")
        machine.start()
        pod = machine.pod()
        added = machine.call("ADD", "c1", pod.path)
        assert added.status == 0, added.out
        assert machine.call("DEL", "c1", pod.path).status == 0
        assert machine.kernel() != kernel
        machine.done("host", "remove")
        assert machine.files() == files
        assert machine.kernel() == kernel
