"""The commands there are: each can be imported, says what it does, and costs nothing before it is run."""

import subprocess
import sys

import click
import pytest

from ctl import main
from tests.ctl.conftest import Ctl


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += every_command(command, (*path, name))
    return found


@pytest.mark.parametrize("path", every_command(main.root()), ids=" ".join)
def test_every_command_has_help_and_an_option_for_its_cluster(ctl: Ctl, path: tuple[str, ...]) -> None:
    said = ctl(*path, "--help")
    assert said.status == 0
    assert said.out.startswith("Usage: tortiectl")


def test_help_imports_no_command() -> None:
    program = "from ctl import main; main.main(['--help'])"
    heavy = "{m for m in sys.modules if m.split('.')[0] in ('sqlalchemy', 'grpc', 'yaml', 'msgspec', 'asyncio', 'lab')}"
    check = f"import sys, atexit; atexit.register(lambda: print({heavy}, file=sys.stderr)); {program}"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
    assert "tortiectl" in done.stdout


def test_a_failure_nobody_foresaw_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctl.failures import told

    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        told(broken)
