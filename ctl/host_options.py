"""What the `host` commands share: they need root, and are about one state folder."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from agent.options import DEFAULT_STATE
from ctl.failures import FORBIDDEN, Failure

R = TypeVar("R")

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=DEFAULT_STATE,
    show_default=True,
    callback=lambda _, __, path: absolute(path),
    help="The agent's folder.",
)


def as_root(command: Callable[..., R]) -> Callable[..., R]:
    """Says at once that root is needed; a file that can't be written is told in one line."""

    @functools.wraps(command)
    def checked(*args: object, **kwargs: object) -> R:
        if os.geteuid() != 0:
            raise Failure("this needs root", FORBIDDEN, "sudo")
        try:
            return command(*args, **kwargs)
        except OSError as error:
            status = FORBIDDEN if isinstance(error, PermissionError) else 1
            raise Failure(f"{error.filename or 'a file'}: {error.strerror}", status) from error

    return checked


def absolute(path: Path) -> Path:
    """The path from the root, links left as they are."""
    return Path(os.path.abspath(path))
