"""The plugin's programs: what `make relay` built, else a script that runs the plugin in Python."""

import sys
from pathlib import Path

from agent.host.errors import HostError
from cni.result import SUPPORTED_VERSIONS

PROGRAMS = ("tortie", "tortie-ipam")
"""One program under two names: it looks at its own."""
_BUILT = Path(__file__).resolve().parents[2] / "build" / "cni"
_SCRIPT = '#!/bin/sh\nTORTIE_PROGRAM=${{0##*/}} exec "{python}" -I -m cni\n'


def built() -> Path | None:
    """The program that `make relay` left, if it did."""
    program = _BUILT / PROGRAMS[0]
    return program if program.is_file() else None


def content() -> bytes:
    """What is installed under both names.

    Raises:
        HostError: it can't be read.
    """
    program = built()
    if program is None:
        return _SCRIPT.format(python=sys.executable).encode()
    try:
        return program.read_bytes()
    except OSError as error:
        raise HostError(f"{program}: {error.strerror}", "make relay", 1) from error


def is_script(program: bytes) -> bool:
    """Whether it needs to be told where the datastore is, for when no agent answers."""
    return program.startswith(b"#!")


def script_versions() -> tuple[str, ...]:
    """What the script speaks."""
    return SUPPORTED_VERSIONS
