"""ipam gc: what departed nodes left, taken back by the controller's own rules, or only told."""

import asyncio
import time
from collections.abc import Sequence

import click
import msgspec

from ctl import output
from ctl.location import Choice, cluster_options
from datastore.errors import Invalid
from datastore.resources.clusterconfiguration import GRACE_MIN_S, ClusterConfigurationSpec
from datastore.store import Store
from ipam import claims, survey
from ipam.reclaim_departed import DepartedReclaim, absent_nodes
from ipam.reclaimable import Candidate, candidates

_LEFT = 1
_LOOKS = 3
"""To a grace: looks further apart begin it anew."""


@click.command(epilog="Example: tortiectl ipam gc --dry-run -o json")
@click.option("--dry-run", is_flag=True, help="Say what would be taken back, and what not and why; exit 1 if any.")
@click.option("--grace", type=float, metavar="SECONDS", help="How long to watch (default: reclaimGraceSeconds).")
@output.form_option
@cluster_options
def gc(dry_run: bool, grace: float | None, form: str, cluster: Choice) -> int:
    """Take back what departed nodes left: endpoints, addresses, empty blocks.

    A node has departed when its Node is deleted. Everything is watched for the grace first, as the controller does;
    what a node that is there has lost, only its own agent can tell, and takes back.
    """
    if grace is not None and grace < GRACE_MIN_S:
        raise Invalid("--grace", f"{grace:g} is below {GRACE_MIN_S}")
    location = cluster.locate()

    async def work() -> int:
        async with location.store() as store:
            found = await _found(store)
            if dry_run:
                return _tell(found, await _grace(store, grace), form)
            taken = [one for one in found if one.taken]
            return _done(await _reclaim(store, await _grace(store, grace)) if taken else [], form)

    return asyncio.run(work())


async def _found(store: Store) -> list[Candidate]:
    """What seems to be nobody's, at two looks: in the first some may just be given or freed."""
    found = candidates(await survey.read(store))
    if not found:
        return []
    await asyncio.sleep(survey.BETWEEN_S)
    again = candidates(await survey.read(store))
    return [one for one in again if one in found]


async def _grace(store: Store, grace: float | None) -> ClusterConfigurationSpec:
    found = await survey.configuration(store)
    return found if grace is None else msgspec.structs.replace(found, reclaim_grace_seconds=grace)


async def _reclaim(store: Store, settings: ClusterConfigurationSpec) -> list[str]:
    """One pass: looks until the grace is over, and until what was emptied by it has rested and gone."""
    done: list[str] = []
    reclaim = DepartedReclaim(store, tell=lambda line: _told(done, line))
    every_s = min(settings.reclaim_grace_seconds, max(settings.cooldown_seconds, 1)) / _LOOKS
    click.echo(f"watching for {settings.reclaim_grace_seconds:g} s", err=True)
    until: float | None = None
    while True:
        before, over = len(done), until is not None and time.monotonic() >= until
        await reclaim.look(await absent_nodes(store), await claims.read(store), settings)
        if until is None:
            until = time.monotonic() + settings.reclaim_grace_seconds  # by when the first look has aged so long
        elif len(done) > before:
            until = time.monotonic() + settings.cooldown_seconds
        elif over:
            return done
        await asyncio.sleep(every_s)


def _told(done: list[str], line: str) -> None:
    done.append(line)
    click.echo(line, err=True)


def _done(done: Sequence[str], form: str) -> int:
    if form == "json":
        output.as_json({"done": list(done)})
    elif not done:
        click.echo("nothing to take back")
    return 0


def _tell(found: Sequence[Candidate], settings: ClusterConfigurationSpec, form: str) -> int:
    if form == "json":
        output.as_json({"items": [_fields(one) for one in found], "graceSeconds": settings.reclaim_grace_seconds})
    elif found:
        rows = [
            [one.subject, one.owner or one.kind, one.node, "yes" if one.taken else "no", one.reason] for one in found
        ]
        output.table(["WHAT", "OWNER", "NODE", "TAKEN", "REASON"], rows)
    else:
        click.echo("nothing to take back")
    return _LEFT if any(one.taken for one in found) else 0


def _word(one: Candidate) -> str:
    return "yes" if one.taken else "no"


def _fields(one: Candidate) -> dict[str, object]:
    return {
        "kind": one.kind,
        "subject": one.subject,
        "owner": one.owner,
        "node": one.node,
        "taken": one.taken,
        "reason": one.reason,
    }
