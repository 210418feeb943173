"""docs/lab.md says what happens: every command of it is run, in order, and prints what the page shows."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import topology
from lab.state import Folder
from tests.pages import blocks, commands, plain
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

PAGE = "lab.md"


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tt-docs-"))
    (path / "policy.yaml").write_text(blocks(PAGE, "yaml")[0])
    yield path
    topology.down(Folder(path / "lab"))
    shutil.rmtree(path)


def test_every_command_of_the_page_prints_what_the_page_shows(folder: Path) -> None:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "TORTIE_STATE": str(folder / "lab")}
    assert len(commands(PAGE)) > 10
    for command, shown in commands(PAGE):
        shell = ("sh", "-c", command)
        done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert plain(done.stdout) == plain(shown), f"{command}\n{done.stdout}{done.stderr}"
