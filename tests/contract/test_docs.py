"""docs/cni.md says what happens: the walk's commands, typed into one shell, print what the page shows."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cni.md"
_VARYING = re.compile(r"\btort[0-9a-f]{11}(@if\d+)?|[0-9a-f]+(:[0-9a-f]*){2,7}|\d+(\.\d+){3}(/\d+)?")
"""Host interfaces and addresses."""
_END = "the end of what a command printed"


def walk() -> list[tuple[str, str]]:
    """Each command of the page with what it prints there."""
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    parts = re.split(r"^\$ (.*)\n", "".join(blocks), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def plain(text: str) -> list[str]:
    return [" ".join(_VARYING.sub("*", line).split()) for line in text.splitlines()]


def test_the_walk_by_hand_prints_what_the_page_shows(tmp_path: Path) -> None:
    typed = "".join(f"{command}\necho {_END!r}\n" for command, _ in walk())
    private = ("unshare", "-nm", "sh", "-c", "mount -n -t tmpfs tmpfs /run && mkdir /run/netns && exec sh")
    environment = {**os.environ, "WALK": str(tmp_path)}
    done = subprocess.run(
        private, input=typed, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    said = done.stdout.split(f"{_END}\n")
    assert len(walk()) > 20
    for (command, shown), printed in zip(walk(), said, strict=False):
        assert plain(printed) == plain(shown), f"{command}\n{printed}{done.stderr}"
    assert len(said) == len(walk()) + 1
