"""Files appear whole: to whoever watches their folder, to whoever runs them, and whatever dies."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from asyncinotify import Inotify, Mask

from agent import files


async def test_a_watcher_hears_of_one_rename_and_of_no_name_that_runtimes_read_before(tmp_path: Path) -> None:
    with Inotify() as watcher:
        watcher.add_watch(tmp_path, Mask.CREATE | Mask.MODIFY | Mask.MOVE)
        files.put(tmp_path / "10-tortie.conflist", b"{}", 0o644)
        heard = []
        async with asyncio.timeout(10):
            async for event in watcher:
                heard.append((event.mask, str(event.name)))
                if event.mask & Mask.MOVED_TO:
                    break
    named = [mask for mask, name in heard if name.endswith((".conf", ".conflist", ".json"))]
    assert named == [Mask.MOVED_TO]
    # A rename from another folder is one that containerd's watcher doesn't see.
    assert Mask.MOVED_FROM in [mask for mask, _ in heard]


@pytest.mark.parametrize("mode", [0o755, 0o644, 0o600])
def test_the_mode_is_the_one_asked_for_whatever_the_umask_is(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        files.put(tmp_path / "file", b"text", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert files.is_so(tmp_path / "file", b"text", mode)


def test_a_program_that_runs_is_replaced_and_runs_on(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/cat", program)
    with subprocess.Popen((program,), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        files.put(program, b"#!/bin/sh\necho new\n", 0o755)
        assert running.communicate(b"old", 10)[0] == b"old"
    assert subprocess.run((program,), capture_output=True, check=True).stdout == b"new\n"


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other's")
    (tmp_path / "file").symlink_to("other")
    assert not files.is_so(tmp_path / "file", b"other's", 0o644)
    files.put(tmp_path / "file", b"ours", 0o644)
    assert (tmp_path / "other").read_text() == "other's"
    assert not (tmp_path / "file").is_symlink()


def test_what_a_run_left_that_died_is_in_nobodys_way_and_goes_with_the_file(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").write_text("half")
    files.put(tmp_path / "file", b"whole", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / ".file.tmp").write_text("half")
    assert files.remove(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    assert not files.remove(tmp_path / "file")


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.put(tmp_path / "file", b"text", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
