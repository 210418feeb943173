"""demo: lab up, pods, a policy, probes with their reasons, lab down; one screen."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import yaml

from ctl.location import Location
from datastore import codec
from lab import agents, topology
from lab import demo as story
from lab.probing import Outcome
from lab.state import Folder, LabError, LabState, default_folder
from policy.evaluate import evaluate
from policy.model import Protocol
from policy.snapshot import Cluster

_UNEXPECTED = 1
_KEPT = "kept"
"""In the folder of a lab that its user wanted to keep."""


@click.command()
@click.option("--nodes", default=3, show_default=True, help="How many; the demo's pods are on the first three.")
@click.option("--keep", is_flag=True, help="Leave the lab running, to look around.")
@click.option("--state", envvar="TORTIE_DEMO_STATE", type=click.Path(path_type=Path), help="Folder of the demo's lab.")
def demo(nodes: int, keep: bool, state: Path | None) -> int:
    """A three-node cluster on this machine: pods, a policy, traffic tried and explained, and away again."""
    folder = Folder(state or default_folder().with_name(default_folder().name.replace("lab", "demo")))
    before = folder.read()
    if state is None and not (folder.path / _KEPT).exists():
        topology.down(folder)  # of a demo that was killed
    elif before is not None and before.holder.process.alive:
        hint = f"end it: tortiectl lab down --state {folder.path}; or take another --state"
        raise LabError(f"a lab runs at {folder.path} already", hint)
    began = time.monotonic()
    with _lab(folder, max(nodes, 3), keep=keep) as made:
        agreed = _show(folder, made)
    click.echo(f"\n{time.monotonic() - began:.1f} s; " + _farewell(folder, keep=keep))
    return 0 if agreed else _UNEXPECTED


@contextmanager
def _lab(folder: Folder, nodes: int, *, keep: bool) -> Iterator[LabState]:
    _say("nodes", f"{nodes} network namespaces, an agent in each, SQLite between them")
    try:
        made = topology.up(folder, nodes)
        if keep:
            (folder.path / _KEPT).touch()
        yield made
    finally:
        if not keep:
            topology.down(folder)


def _show(folder: Folder, state: LabState) -> bool:
    """Make pods, apply the policy, probe; True if every packet did what the policies mean."""
    for node in state.nodes:
        said = agents.status(folder, node.name) or {}
        _say("", f"{node.name} {node.addresses[0]} {node.addresses[1]}, iptables {said.get('iptables', '?')}")
    _say("pods", "made by executing the CNI plugin")
    story.make_pods(folder, state, lambda line: _say("", line))
    location = Location(folder.datastore, folder)
    known = asyncio.run(_apply(location, state))
    _say("policy", "shop/db-allow-api: db takes port postgres from app=api only")
    _say("probes", "real packets, and what the policies say of each")
    outcomes = story.try_all(folder, state)
    told = [_told(known, step, outcome) for step, outcome in zip(story.STEPS, outcomes, strict=True)]
    return all(told)


async def _apply(location: Location, state: LabState) -> Cluster:
    from ctl.policy_commands import snapshot

    async with location.store() as store:
        written = await store.create(codec.decode(yaml.safe_load(story.POLICY)))
    if location.folder is not None:
        agents.wait_applied(location.folder, state, [agents.Awaited.of(written)])
    return await snapshot(location)


def _told(known: Cluster, step: story.Step, outcomes: list[Outcome]) -> bool:
    source, destination = f"shop/{step.source}", f"shop/{step.destination}"
    protocol = Protocol(step.target.protocol)
    verdict = evaluate(known.snapshot, known.end(source), known.end(destination), step.target.port, protocol)
    passed = all(outcome.allowed for outcome in outcomes)
    agreed = all(outcome.allowed == verdict.allowed for outcome in outcomes)
    word = "ALLOWED" if passed else "DENIED"
    port = f"{step.target.protocol}/{step.target.port}"
    _say("", f"{step.source:>3} -> {step.destination:<3} {port:<8} {word:<7} {verdict.reason}")
    if not agreed:
        _say("", f"    but the policies say {'ALLOWED' if verdict.allowed else 'DENIED'}: look at the agents' logs")
    return agreed


def _farewell(folder: Folder, *, keep: bool) -> str:
    if not keep:
        return "everything is gone again"
    return f"look around with TORTIE_STATE={folder.path}, end it with tortiectl lab down --state {folder.path}"


def _say(head: str, line: str) -> None:
    click.echo(f"{head:<7} {line}")
