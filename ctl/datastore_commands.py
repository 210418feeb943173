"""datastore: the whole of it written out, put in, and looked over."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import click

from ctl import manifests, output
from ctl.failures import Failure
from ctl.location import Choice, cluster_options
from datastore import codec
from datastore.errors import Invalid
from datastore.resources.value import Resource
from datastore.transfer import dump, load, verify
from datastore.transfer.copying import some
from datastore.transfer.dump import Export
from datastore.transfer.load import Outcome, Plan
from datastore.transfer.objects import named
from datastore.transfer.verify import Checked
from datastore.urls import describe, parse

_WRONG = 1
_PRIVATE = 0o600


@click.command(epilog="Example: tortiectl datastore export --file backup.jsonl")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Where to (default: standard output).")
@click.option("--kinds", default="", metavar="KIND,...", help="Only these, such as ippools,ipblocks.")
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]), default="json", help="JSON: one a line.")
@cluster_options
def export(file: Path | None, kinds: str, form: str, cluster: Choice) -> None:
    """Write out every object, and of which datastore they are, for `datastore import` to read.

    Nothing needs to stop; each kind is of one moment. The same content gives the same lines, but the first.
    """
    wanted = named(one for one in kinds.split(",") if one)
    location = cluster.locate()
    location.check_there()

    async def read() -> Export:
        async with location.store() as store:
            return await dump.export(store, describe(location.url), wanted)

    exported = asyncio.run(read())
    if file is None:
        _write(exported, form, sys.stdout)
        return
    try:
        _write_file(exported, form, file)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", 1) from error
    click.echo(f"{len(exported.objects)} objects written to {file}", err=True)


def _write(exported: Export, form: str, file: IO[str]) -> None:
    if form == "json":
        for line in exported.lines():
            file.write(f"{line}\n")
        return
    import yaml

    yaml.dump_all(exported.documents(), file, Dumper=yaml.CSafeDumper, sort_keys=True, explicit_start=True)


def _write_file(exported: Export, form: str, file: Path) -> None:
    """Write it whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w", encoding="utf-8") as opened:
            _write(exported, form, opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(beside, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


@click.command("import", epilog="Example: tortiectl datastore import backup.jsonl --datastore sqlite:///srv/new.db")
@click.argument("file", metavar="FILE|-")
@click.option("--replace", is_flag=True, help="Write over objects that differ.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@output.form_option
@cluster_options
def import_(file: str, replace: bool, dry_run: bool, form: str, cluster: Choice) -> int:
    """Put what `datastore export` wrote into a datastore; what differs there stays, is told, and makes it exit 1.

    Everything is read and judged before the first write. End the agents of a datastore before you put blocks into it.
    """
    resources = list(_read(file))
    location = cluster.locate()

    async def put() -> tuple[Plan, Outcome]:
        async with location.store(create=not dry_run) as store:
            plan = await load.planned(store, parse(location.url).scheme, resources)
            if plan.overlaps:
                raise Failure(f"{some(plan.overlaps)}: an address would be given twice", 1, "nothing was written")
            return plan, Outcome() if dry_run else await load.carry_out(store, plan, replace=replace)

    plan, outcome = asyncio.run(put())
    return _print_import(plan, outcome, form, replace=replace, dry_run=dry_run)


def _read(path: str) -> Iterator[Resource]:
    """Every object of an export, checked."""
    seen: set[str] = set()
    for source, document in manifests.documents(path):
        if dump.is_header(document, source):
            continue
        try:
            resource = codec.decode(document)
            resource.check()
            codec.encode(resource)
        except Invalid as error:
            raise Invalid(f"{source}: {manifests.name_of(document)}", str(error)) from None
        key = f"{resource.KIND.full_name} {resource.key}"
        if key in seen:
            raise Invalid(f"{source}: {resource.key}", "is given twice")
        seen.add(key)
        yield resource


def _print_import(plan: Plan, outcome: Outcome, form: str, *, replace: bool, dry_run: bool) -> int:
    would = "would be " if dry_run else ""
    created = plan.missing if dry_run else outcome.created
    replaced = [one for one, _ in plan.other] if dry_run and replace else outcome.replaced
    left = [*([] if replace else [one for one, _ in plan.other]), *outcome.overtaken]
    if form == "json":
        output.as_json(
            {
                "created": _keys(created),
                "replaced": _keys(replaced),
                "unchanged": len(plan.there),
                "differing": _keys(left),
                "skipped": {kind.KIND.plural: why for kind, why in plan.kept_out.items()},
                "dryRun": dry_run,
            }
        )
        return _WRONG if left else 0
    click.echo(f"{len(created)} {would}created, {len(replaced)} {would}replaced, {len(plan.there)} unchanged")
    for kind, why in plan.kept_out.items():
        click.echo(f"{kind.KIND.plural}: skipped: {why}", err=True)
    for one in left:
        click.echo(f"{one.key}: differs, and stays as it is there")
    return _WRONG if left else 0


def _keys(resources: Sequence[Resource]) -> list[str]:
    return sorted(one.key for one in resources)


@click.command(epilog="Example: tortiectl datastore check --datastore sqlite:///var/lib/tortie/tortie.db")
@click.option("--read-only", is_flag=True, help="Write no scratch object, so that writes and watches aren't tried.")
@output.form_option
@cluster_options
def check(read_only: bool, form: str, cluster: Choice) -> int:
    """Read every object, look for each by all it can be found by, try a write and a watch; exit 1 if all isn't well."""
    location = cluster.locate()
    location.check_there()

    async def look() -> Checked:
        async with location.store() as store:
            return await verify.check(store, write=not read_only)

    checked = asyncio.run(look())
    if form == "json":
        output.as_json({"datastore": describe(location.url), **_check_fields(checked)})
    else:
        _print_check(checked, describe(location.url))
    return _WRONG if checked.flaws else 0


def _check_fields(checked: Checked) -> dict[str, object]:
    return {
        "identity": checked.identity,
        "objects": checked.counts,
        "items": [{"subject": one.subject, "message": one.what} for one in checked.flaws],
        "writeMilliseconds": None if checked.write_s is None else round(checked.write_s * 1000, 3),
        "writesNotTried": checked.untried,
    }


def _print_check(checked: Checked, described: str) -> None:
    click.echo(f"{described}, identity {checked.identity}")
    output.table(["KIND", "OBJECTS"], [[kind, count] for kind, count in checked.counts.items() if count])
    if checked.write_s is not None:
        click.echo(f"a compare-and-swap takes {checked.write_s * 1000:.2f} ms, and watches tell it")
    else:
        click.echo(f"writes and watches were not tried: {checked.untried}")
    for one in checked.flaws:
        click.echo(f"{one.subject}: {one.what}")
    if not checked.flaws:
        click.echo("nothing is wrong")
