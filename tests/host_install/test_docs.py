"""docs/host.md says what happens: every command of it is run, in order, and prints what the page shows."""

import shlex
from pathlib import Path

import pytest

from tests.host_install.machine import machines
from tests.pages import commands, plain
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


def test_every_command_of_the_page_prints_what_the_page_shows(tmp_path: Path) -> None:
    found = commands("host.md")
    assert len(found) > 6
    with machines(tmp_path, folders=("etc/cni/net.d",)) as machine:
        before = machine.files(), machine.kernel()
        for command, shown in found:
            if command.startswith("tortie-agent "):
                machine.start(*shlex.split(command))
                continue
            said = machine.run("sh", "-c", command)
            assert plain(said.out) == plain(shown), f"{command}\n{said.out}{said.err}"
        assert (machine.files(), machine.kernel()) == before
