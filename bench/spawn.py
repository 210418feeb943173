"""Executing a plugin and timing it, by the same means for ours and the reference's.

posix_spawn with files for standard input and output: no pipes to read, no threads, no Python between exec and exit.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a plugin."""

    program: str
    environment: Mapping[str, str]
    config: Path


class Failed(Exception):
    """A plugin ended with an error; the measurement is worth nothing."""


def run(call: Call, output: Path) -> float:
    """Execute it and wait; gives the wall time in seconds.

    Raises:
        Failed: it ended with an error.
    """
    began = time.perf_counter()
    pid = _start(call, output)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    _check(call, status, output)
    return seconds


def run_all(calls: Sequence[Call], outputs: Sequence[Path]) -> float:
    """Execute all of them at once; gives the wall time until the last has ended.

    Raises:
        Failed: one ended with an error.
    """
    began = time.perf_counter()
    pids = [_start(call, output) for call, output in zip(calls, outputs, strict=True)]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    seconds = time.perf_counter() - began
    for call, status, output in zip(calls, statuses, outputs, strict=True):
        _check(call, status, output)
    return seconds


def _start(call: Call, output: Path) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, str(call.config), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    return os.posix_spawn(call.program, [call.program], dict(call.environment), file_actions=actions)


def _check(call: Call, status: int, output: Path) -> None:
    if status:
        raise Failed(f"{call.program} {call.environment['CNI_COMMAND']}: {output.read_text()[:500]}")
