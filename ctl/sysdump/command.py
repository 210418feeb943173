"""sysdump: everything that whoever helps will ask for, in one archive, the summary first and no secret in it."""

import asyncio
import contextlib
import io
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from ctl.failures import Failure
from ctl.installation import namespace_option
from ctl.location import Choice, Location, cluster_options
from ctl.status import printed
from ctl.status.looking import look
from ctl.status.remarks import remarks
from ctl.sysdump import cluster as of_cluster
from ctl.sysdump import machine
from ctl.sysdump.parts import Parts, write
from datastore import codec
from datastore.errors import StoreError
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.requests import requests
from datastore.resources import kinds
from datastore.urls import parse

_WARNINGS = 20
"""Of the cluster's events, in the summary."""


@click.command(epilog="Example: kubectl tortie sysdump --output sysdump.tar.gz")
@click.option("--output", type=click.Path(path_type=Path), help="The archive (default: tortie-sysdump-TIME.tar.gz).")
@click.option("--host", is_flag=True, help="This machine's kernel and agent too, where the datastore is Kubernetes.")
@namespace_option
@cluster_options
def sysdump(output: Path | None, host: bool, namespace: str, cluster: Choice) -> None:
    """Collect objects, nodes, events, logs and, on hosts and in labs, what the kernel has, into an archive.

    SUMMARY.txt is its first file. Secrets are never read; tokens, passwords, keys and values of environment variables
    are taken out of all else. What can't be collected is told in the summary.
    """
    location, now, parts = cluster.locate(), time.time(), Parts()
    top = f"tortie-sysdump-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    path = output or Path(f"{top}.tar.gz")
    warnings = asyncio.run(_collected(location, namespace, parts))
    _machines(location, cluster, parts, host=host)
    summary = _summary(now, asyncio.run(_status(location, namespace)), warnings, parts)
    try:
        write(path, top, summary, parts, now)
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}", 1) from error
    for line in parts.failures:
        click.echo(f"not collected: {line}", err=True)
    click.echo(f"{path}: {len(parts.found) + 1} files; look at SUMMARY.txt before you pass it on")


async def _collected(location: Location, namespace: str, parts: Parts) -> Sequence[str]:
    """What the datastore has; gives the newest warnings."""
    address = parse(location.url)
    if isinstance(address, KubernetesAddress):
        async with requests(address) as api:
            return await of_cluster.collect(api, namespace, parts)
    try:
        async with location.store() as store:
            for kind in kinds.KINDS:
                found = [codec.document(one) for one in (await store.list(kind)).items]
                parts.json(f"objects/{kind.KIND.full_name}.json", found)
    except (StoreError, Failure) as error:
        parts.failed("objects", error)
    return []


def _machines(location: Location, cluster: Choice, parts: Parts, *, host: bool) -> None:
    lab = location.lab()
    if lab is not None and location.folder is not None:
        machine.collect_lab(parts, location.folder, lab)
    elif host or not isinstance(parse(location.url), KubernetesAddress):
        machine.collect(parts, cluster.state)


async def _status(location: Location, namespace: str) -> str:
    """What `tortiectl status` says."""
    try:
        seen = await look(location, namespace)
    except (StoreError, Failure) as error:
        return f"the datastore can't be read: {error}\n"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        printed.show(seen, remarks(seen))
    return shown.getvalue()


def _summary(now: float, status: str, warnings: Sequence[str], parts: Parts) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    lines = [f"tortie {version('tortie')}, collected {when}", "", status]
    if warnings:
        lines += [f"Warnings among the cluster's events ({len(warnings)}, the newest):", *warnings[-_WARNINGS:], ""]
    if parts.failures:
        lines += ["What could not be collected:", *parts.failures, ""]
    lines += ["Files:", *(f"{len(content):9} {name}" for name, content in sorted(parts.found.items()))]
    return "\n".join([*lines, ""])
