"""What is printed: tables for people, JSON and YAML for programs."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

_GAP = "   "

form_option = click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", help="For people, or for programs."
)
"""-o table or json, which comes to the command as `form`."""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns, as kubectl prints them; nothing but a word on stderr where there are no rows."""
    texts = [[str(cell) for cell in row] for row in rows]
    if not texts:
        click.echo("nothing found", err=True)
        return
    widths = [max(len(line[column]) for line in [list(headings), *texts]) for column in range(len(headings))]
    for line in [list(headings), *texts]:
        click.echo(_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def as_json(value: object) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2))


def as_yaml(value: object) -> None:
    """One YAML document."""
    import yaml

    click.echo(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False).rstrip())


def print_objects(documents: Sequence[Mapping[str, Any]], form: str, *, alone: bool) -> None:
    """Objects as JSON or YAML: one alone as it is, otherwise `{"items": [...]}`."""
    value: object = documents[0] if alone else {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    as_json(value) if form == "json" else as_yaml(value)


def when(seconds: float) -> str:
    """Unix seconds as RFC 3339, `-` for none."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "-"
