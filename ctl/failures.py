"""How every command ends when something is wrong: one line to stderr, and the exit status that says what kind of wrong.

0 yes, 1 no, 2 bad input, 3 unreachable, 4 forbidden, 5 timed out, 130 interrupted.
"""

import sys
from collections.abc import Callable

import click

BAD_INPUT, UNREACHABLE, FORBIDDEN, TIMED_OUT, INTERRUPTED = 2, 3, 4, 5, 130
_BROKEN_PIPE = 141


class Failure(Exception):
    """A command ends here, with a line and a status."""

    def __init__(self, message: str, status: int = BAD_INPUT, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


def told(work: Callable[[], int]) -> int:
    """Run a command; what it raises becomes one line on stderr and an exit status."""
    try:
        return work()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return BAD_INPUT
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        return _say(error.format_message(), BAD_INPUT)
    except (KeyboardInterrupt, EOFError):
        return INTERRUPTED
    except BrokenPipeError:
        return _BROKEN_PIPE
    except Exception as error:
        status, hint = _judged(error)
        if status is None:
            raise
        return _say(str(error), status, hint)


def _judged(error: Exception) -> tuple[int | None, str]:
    """The exit status of an error that we know, and what to do next."""
    if isinstance(error, Failure):
        return error.status, error.hint
    # Imported here: a `--help` must not pay for these.
    from agent.host.errors import HostError
    from datastore.errors import Forbidden, Invalid, StoreError, UnknownKind, UnsupportedDatastore
    from datastore.transfer.errors import TransferError
    from ipam.errors import IpamError
    from kernel.errors import KernelError
    from lab.state import LabError

    match error:
        case LabError() | HostError():
            return error.status, error.hint
        case Invalid() | UnknownKind() | UnsupportedDatastore():
            return BAD_INPUT, ""
        case Forbidden():
            return FORBIDDEN, ""
        case StoreError():
            return UNREACHABLE, ""
        case IpamError():
            if getattr(error, "bad_input", False):
                return BAD_INPUT, ""
            return (UNREACHABLE if getattr(error, "unreachable", False) else 1), ""
        case TransferError():
            return 1, error.hint
        case KernelError():
            return 1, ""
        case _:
            return None, ""


def _say(message: str, status: int, hint: str = "") -> int:
    line = " ".join(message.split())
    print(f"tortiectl: {line}" + (f"; {hint}" if hint else ""), file=sys.stderr)
    return status
