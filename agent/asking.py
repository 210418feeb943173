"""Asking a running agent over its control socket (`agent.control` answers), and finding its process."""

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kernel.process import Process

_LENGTH = struct.Struct("=I")
_CREDENTIALS = struct.Struct("=iII")
_STATUS_S = 10.0


def ask(path: Path, question: Mapping[str, Any], limit_s: float) -> Mapping[str, Any]:
    """The answer of the agent whose control socket is at `path`.

    Raises:
        OSError: none listens there, or it doesn't answer in time.
        ValueError: what answers is no agent.
    """
    body = json.dumps(question).encode()
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(limit_s)
        agent.connect(str(path))
        agent.sendall(_LENGTH.pack(len(body)) + body)
        with agent.makefile("rb") as answers:
            (length,) = _LENGTH.unpack(answers.read(_LENGTH.size).ljust(_LENGTH.size, b"\0"))
            return cast("Mapping[str, Any]", json.loads(answers.read(length) or b"{}"))


def status(path: Path) -> Mapping[str, Any] | None:
    """What an agent says of itself; None if none answers."""
    try:
        return ask(path, {"status": {}}, _STATUS_S)
    except (OSError, ValueError):
        return None


def process_at(path: Path) -> Process | None:
    """The process that listens at a control socket; None if none does.

    The kernel tells it (unix(7), SO_PEERCRED): a pid that a process says of itself means nothing in another pid
    namespace.
    """
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(_STATUS_S)
            agent.connect(str(path))
            found = agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _, _ = _CREDENTIALS.unpack(found)
        return Process.of(pid) if pid and pid != os.getpid() else None
    except (OSError, ProcessLookupError):
        return None
