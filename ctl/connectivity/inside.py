"""What runs in the pods of a connectivity test: `serve` answers, `probe` asks and leaves its answer in a file.

A probe is tried until what is expected comes, for as long as patience lasts: a Service or a policy that was just made
takes its moment to reach every node.
"""

import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from ctl.connectivity.plan import OPEN, PORT, SILENT

_TRY_S = 2.0
"""A TCP handshake whose first packet was lost is tried again after a second."""
_PAUSE_S = 0.2
_AT_ONCE = 32

Asked = tuple[str, str, str]
Answer = tuple[str, int]
"""What was heard last, and after how many milliseconds it was what was expected."""


@click.command()
@click.argument("ports", nargs=-1, required=True, metavar="PORT/PROTOCOL...")
def serve(ports: Sequence[str]) -> None:
    """Listen on every PORT/PROTOCOL, without end."""
    from lab import serve as server

    server.main(ports)


@click.command()
@click.argument("asked")
@click.option("--patience", "patience_s", type=float, default=10.0, show_default=True, help="Seconds, at most.")
@click.option("--answer", type=click.Path(path_type=Path), help="File for the answer, besides standard output.")
def probe(asked: str, patience_s: float, answer: Path | None) -> None:
    """Ask each of ASKED, a JSON list of [address, protocol, expected]; prints a list of [heard, milliseconds]."""
    try:
        questions = [(str(address), str(protocol), str(expected)) for address, protocol, expected in json.loads(asked)]
    except (ValueError, TypeError):
        raise click.BadParameter("is no JSON list of [address, protocol, expected]", param_hint="ASKED") from None
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = list(pool.map(lambda one: ask(one, patience_s), questions))
    text = json.dumps(answers, separators=(",", ":"))
    if answer is not None:
        answer.write_text(text)
    click.echo(text)


def ask(asked: Asked, patience_s: float) -> Answer:
    """Ask until what is expected comes, or patience is over."""
    address, protocol, expected = asked
    start = time.monotonic()
    while True:
        heard = _resolved(address) if protocol == "DNS" else _heard(address, protocol)
        passed = time.monotonic() - start
        if heard == expected or passed + _PAUSE_S > patience_s:
            return heard, round(passed * 1000)
        time.sleep(_PAUSE_S)


def _heard(address: str, protocol: str) -> str:
    from lab.probe import probe as probed

    return probed(address, PORT, protocol, _TRY_S)


def _resolved(name: str) -> str:
    try:
        socket.getaddrinfo(name, PORT)
    except OSError:
        return SILENT
    return OPEN
