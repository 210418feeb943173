"""tortiectl in this process, on a SQLite file of the test's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctl import main
from ctl.failures import told


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str


Ctl = Callable[..., Said]


@pytest.fixture
def ctl(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ctl:
    monkeypatch.setenv("TORTIE_DATASTORE", f"sqlite://{tmp_path}/store.db")
    monkeypatch.delenv("TORTIE_STATE", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        status = told(lambda: main.run(list(arguments)))
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run
