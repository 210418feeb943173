"""kubectl-tortie: the same commands as `kubectl tortie ...`, on the cluster that kubectl means.

    --context, --kubeconfig    anywhere among the words, as kubectl's own
    without --datastore        kubernetes:, with that context, whatever $TORTIE_DATASTORE says

kubectl finds it by its name on $PATH and passes on what follows the name; it takes no flags before it.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

_PROGRAM = "kubectl tortie"
_FLAGS = ("--context", "--kubeconfig")
_DATASTORE = "TORTIE_DATASTORE"


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    from ctl.failures import told

    sys.exit(told(lambda: run(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command; see `ctl.main.run`."""
    from ctl.main import run as run_command

    left, flags = taken(arguments)
    os.environ[_DATASTORE] = datastore(flags.get("--kubeconfig", ""), flags.get("--context", ""))
    return run_command(left, _PROGRAM)


def taken(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words without kubectl's own flags, and these; what follows `--` is nobody's flag.

    Raises:
        Failure: a flag has no value.
    """
    left: list[str] = []
    flags: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if word == "--":
            return [*left, word, *words], flags
        if flag not in _FLAGS:
            left.append(word)
        else:
            flags[flag] = value if equals else _next(words, flag)
    return left, flags


def datastore(kubeconfig: str, context: str) -> str:
    """The address of the cluster that kubectl would ask with these flags."""
    path = f"//{quote(str(Path(kubeconfig).expanduser().absolute()))}" if kubeconfig else ""
    return f"kubernetes:{path}" + (f"?{urlencode({'context': context})}" if context else "")


def _next(words: Iterator[str], flag: str) -> str:
    from ctl.failures import Failure

    value = next(words, "")
    if not value:
        raise Failure(f"{flag} needs a value")
    return value
