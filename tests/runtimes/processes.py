"""The processes there are, in whatever PID namespace, told by /proc."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One that lives; its PID and its parent's are those of our own namespace."""

    pid: int
    name: str
    parent: int
    namespace: str


def living() -> Iterator[Process]:
    """Every process but zombies and those that end meanwhile."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            rows = dict(row.split(":\t", 1) for row in (folder / "status").read_text().splitlines() if ":\t" in row)
            namespace = os.readlink(folder / "ns" / "pid")
        except OSError:
            continue
        if not rows["State"].startswith("Z"):
            yield Process(int(folder.name), rows["Name"], int(rows["PPid"]), namespace)
