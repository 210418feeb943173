"""Many writers in several processes on the same few objects: the order of revisions is the order of commits.

What writers were told and what the log says must be one history: numbers without a gap, each given once, and each
write made on the state that the one before it had left.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE

from datastore.resources.networkpolicy import NetworkPolicy
from tests.datastore.drivers import PATIENCE_S
from tests.datastore.postgresql.place import Place
from tests.datastore.processes import ROOT

PROCESSES = 4
TRIES = 200


async def storm(place: Place, seed: int) -> list[list[str]]:
    """The lines of one process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.datastore.postgresql.storm", place.url(), str(seed), str(TRIES)),
        stdout=PIPE,
        cwd=ROOT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return [line.split() for line in said.decode().splitlines()]


async def test_what_all_were_told_is_one_history(place: Place) -> None:
    store = await place.open()
    async with asyncio.timeout(PATIENCE_S):
        said = await asyncio.gather(*(storm(place, seed) for seed in range(PROCESSES)))
    lines = [line for lines in said for line in lines]
    assert len(lines) == PROCESSES * TRIES
    outcomes = {outcome for _, _, _, outcome, _ in lines}
    assert {"done", "Conflict"} <= outcomes  # they did get in each other's way

    session = await place.session()
    log = await session.fetch("SELECT revision, name, was IS NULL, now IS NULL FROM tortie.change ORDER BY revision")
    assert [number for number, *_ in log] == list(range(1, len(log) + 1))
    assert len(log) == sum(outcome == "done" for _, _, _, outcome, _ in lines)

    told = {revision: (verb, name, at) for verb, name, at, outcome, revision in lines if revision != "-"}
    deleted_at = {(name, at) for verb, name, at, outcome, _ in lines if (verb, outcome) == ("delete", "done")}
    identity = (await store.list(NetworkPolicy)).revision.partition("-")[2]
    current: dict[str, str] = {}
    for number, name, is_create, is_delete in log:
        revision = f"{number}-{identity}"
        if is_delete:
            assert (name, current.pop(name)) in deleted_at
        else:
            verb = "create" if is_create else "update"
            assert told.pop(revision) == (verb, name, current.get(name, "-"))
            current[name] = revision
    assert told == {}
    held = {item.name: item.revision for item in (await store.list(NetworkPolicy)).items}
    assert held == current
