"""docs/lab.md says what happens: every command of it is run, in order, and prints what the page shows."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import topology
from lab.state import Folder
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

PAGE = Path(__file__).parents[2] / "docs" / "lab.md"
_VARYING = re.compile(r"\btort[0-9a-f]{11}|[0-9a-f]+(:[0-9a-f]*){2,7}|\d+(\.\d+){3}|\b(nft|legacy)\b")
"""Host interfaces, addresses, and which iptables the machine uses."""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tt-docs-"))
    (path / "policy.yaml").write_text(blocks("yaml")[0])
    yield path
    topology.down(Folder(path / "lab"))
    shutil.rmtree(path)


def blocks(language: str) -> list[str]:
    """What stands between fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Each command of the page with what it prints there."""
    parts = re.split(r"^\$ (.*)\n", "".join(blocks("console")), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def plain(text: str) -> list[str]:
    """Lines without what differs between two labs, and without the spaces that make columns."""
    return [" ".join(_VARYING.sub("*", line).split()) for line in text.splitlines()]


def test_every_command_of_the_page_prints_what_the_page_shows(folder: Path) -> None:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "TORTIE_STATE": str(folder / "lab")}
    assert len(commands()) > 10
    for command, shown in commands():
        shell = ("sh", "-c", command)
        done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert plain(done.stdout) == plain(shown), f"{command}\n{done.stdout}{done.stderr}"
