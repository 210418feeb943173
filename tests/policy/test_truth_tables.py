"""Other people's truth tables: every probe of every step."""

import pytest

from policy.evaluate import evaluate
from policy.model import Direction
from tests.policy.truth_tables import PROBES, Case, cases


def test_no_probe_is_lost_on_the_way() -> None:
    assert sum(len(step.probes) for case in cases() for step in case.steps()) == PROBES


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases()])
def test_evaluate_agrees(case: Case) -> None:
    for step in case.steps():
        snapshot = step.snapshot()
        for probe in step.probes:
            verdict = evaluate(snapshot, probe.source, probe.destination, probe.port, probe.protocol)
            assert verdict.allowed is probe.allowed, (probe, verdict.reason)
            sides = {Direction.EGRESS: verdict.egress, Direction.INGRESS: verdict.ingress}
            for direction, allowed in probe.sides.items():
                assert sides[direction].allowed is allowed, (probe, sides[direction].reason)
