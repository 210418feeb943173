"""The cgroups of a cluster: one below each controller, `/NAME`, with one of each node in it.

Cgroups are the machine's, not a namespace's: they need names that say whose they are, and removing. NAME has the PID
of the test run, so runs don't meet, and what a killed run has left is removed by the next.

Source: Documentation/admin-guide/cgroup-v1/cpusets.rst (a cpuset without CPUs and memory nodes takes no process).
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_WAIT_S = 20.0
PREFIX = "tke"
_NAME = re.compile(rf"{PREFIX}-(\d+)-\d+")


def missing() -> str:
    """Why there is none to be had; empty if there is."""
    found = {path.name for path in _ROOT.iterdir()} if _ROOT.exists() else set()
    lacking = {"cpu", "cpuset", "memory", "pids", "devices", "freezer"} - found
    return f"no cgroup (version 1) of {', '.join(sorted(lacking))} is mounted" if lacking else ""


def make(name: str) -> None:
    """A cgroup below every controller, such as tke-123-0/node-1."""
    for controller in _controllers():
        made = controller
        for part in name.split("/"):
            made /= part
            made.mkdir(exist_ok=True)
            if controller.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (made / file).write_text((made.parent / file).read_text())


def left(name: str) -> list[Path]:
    """Those of a cluster that are there, the innermost first."""
    roots = [path for controller in _controllers() if (path := controller / name).is_dir()]
    inner = [path for root in roots for path in root.rglob("*") if path.is_dir()]
    return sorted([*roots, *inner], reverse=True)


def remove(name: str) -> None:
    """Remove them, as soon as the processes that were in them are gone."""
    limit = time.monotonic() + _WAIT_S
    while found := left(name):
        for path in found:
            with suppress(OSError):
                path.rmdir()
        if time.monotonic() > limit:
            raise AssertionError(f"cgroups stay: {found}")
        time.sleep(0.05)


def remove_abandoned() -> None:
    """Remove what test runs have left that are no more; one that still has processes stays."""
    for controller in _controllers():
        for path in controller.glob(f"{PREFIX}-*"):
            whose = _NAME.fullmatch(path.name)
            if whose and not Path(f"/proc/{whose[1]}").exists():
                for inner in sorted((one for one in path.rglob("*") if one.is_dir()), reverse=True):
                    with suppress(OSError):
                        inner.rmdir()
                with suppress(OSError):
                    path.rmdir()


def _controllers() -> Iterator[Path]:
    yield from (path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink())
