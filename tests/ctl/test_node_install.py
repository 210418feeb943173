"""node install: what an init container runs on each node."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ctl.conftest import Ctl

NAMES = ("tortie", "tortie-ipam")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "from"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"program " + name.encode())
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def test_both_programs_are_installed_for_all_to_run_and_nothing_else_appears(
    ctl: Ctl, source: Path, there: Path
) -> None:
    said = ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
    assert said.out.splitlines() == [f"{there}/{name}: installed" for name in NAMES]
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        name: (source / name).read_bytes() for name in NAMES
    }
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in there.iterdir())


def test_what_is_the_same_stays_the_file_that_it_is(ctl: Ctl, source: Path, there: Path) -> None:
    ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
    before = [(there / name).stat() for name in NAMES]
    (there / "bridge").write_text("others'")
    said = ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
    assert said.out.splitlines() == [f"{there}/{name}: is so already" for name in NAMES]
    assert [(there / name).stat() for name in NAMES] == before
    assert (there / "bridge").read_text() == "others'"


def test_plugins_of_others_that_pods_need_are_missed_with_the_next_command_and_never_touched(
    ctl: Ctl, source: Path, there: Path
) -> None:
    (there / "loopback").write_text("theirs")
    said = ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
    (warning,) = said.err.splitlines()
    assert said.status == 0
    assert f"{there} has no portmap" in warning
    assert "install the package kubernetes-cni" in warning
    (there / "portmap").write_text("theirs")
    assert ctl("node", "install", "--bin-dir", str(there), "--from", str(source)).err == ""
    assert (there / "loopback").read_text() == (there / "portmap").read_text() == "theirs"


def test_a_program_that_runs_is_replaced_and_runs_on(ctl: Ctl, source: Path, there: Path) -> None:
    shutil.copy("/bin/sleep", there / "tortie")
    with subprocess.Popen([there / "tortie", "60"]) as running:
        said = ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
        assert said.status == 0, said.err
        assert running.poll() is None
        running.kill()
    assert (there / "tortie").read_bytes() == (source / "tortie").read_bytes()


def test_half_a_file_of_a_run_that_died_is_cleared_away(ctl: Ctl, source: Path, there: Path) -> None:
    (there / ".tortie.tmp").write_text("half")
    ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
    assert sorted(path.name for path in there.iterdir()) == list(NAMES)


def a_folder_in_the_way(_: Path, there: Path) -> None:
    (there / "tortie").mkdir()


def no_such_folder(_: Path, there: Path) -> None:
    there.rmdir()


def no_program(source: Path, _: Path) -> None:
    (source / "tortie-ipam").unlink()


def an_empty_program(source: Path, _: Path) -> None:
    (source / "tortie-ipam").write_text("")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (a_folder_in_the_way, "bin/tortie can't be written"),
        (no_such_folder, "there is no folder"),
        (no_program, "from/tortie-ipam can't be read"),
        (an_empty_program, "from/tortie-ipam is empty"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_cant_be_done_is_one_sentence_and_exit_1(ctl: Ctl, source: Path, there: Path, spoil, said) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    spoil(source, there)
    refused = ctl("node", "install", "--bin-dir", str(there), "--from", str(source))
    assert refused.status == 1
    assert said in refused.err
    assert len(refused.err.splitlines()) == 1
