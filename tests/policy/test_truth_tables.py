"""Other people's truth tables: every probe of every step, by evaluate and by the rules."""

from dataclasses import replace

import pytest

from policy import evaluate
from policy.evaluate import Snapshot
from policy.model import Direction
from tests.policy.nodes import Nodes
from tests.policy.truth_tables import PROBES, Case, cases

EACH_CASE = pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases()])


def test_no_probe_is_lost_on_the_way() -> None:
    assert sum(len(step.probes) for case in cases() for step in case.steps()) == PROBES


@EACH_CASE
def test_evaluate_agrees(case: Case) -> None:
    for step in case.steps():
        snapshot = step.snapshot()
        for probe in step.probes:
            verdict = evaluate.evaluate(snapshot, probe.source, probe.destination, probe.port, probe.protocol)
            assert verdict.allowed is probe.allowed, (probe, verdict.reason)
            sides = {Direction.EGRESS: verdict.egress, Direction.INGRESS: verdict.ingress}
            for direction, allowed in probe.sides.items():
                assert sides[direction].allowed is allowed, (probe, sides[direction].reason)


@pytest.mark.parametrize(
    "names", [pytest.param(("n1",), id="one node"), pytest.param(("n1", "n2", "n3"), id="three nodes")]
)
@EACH_CASE
def test_the_rules_agree(case: Case, names: tuple[str, ...]) -> None:
    nodes = Nodes(names)
    for step in case.steps():
        snapshot = _spread(step.snapshot(), names)
        nodes.update(snapshot)
        addresses = {endpoint.id: endpoint.addresses[0] for endpoint in snapshot.endpoints.values()}
        for probe in step.probes:
            passed = nodes.connects(addresses[probe.source], addresses[probe.destination], probe.port, probe.protocol)
            assert passed is probe.allowed, probe


def _spread(snapshot: Snapshot, names: tuple[str, ...]) -> Snapshot:
    """The same pods with interfaces, on nodes one after the other."""
    placed = {
        endpoint.id: replace(endpoint, node=names[number % len(names)], interface=f"tort{number}")
        for number, endpoint in enumerate(snapshot.endpoints.values())
    }
    return replace(snapshot, endpoints=placed)
