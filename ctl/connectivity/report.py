"""What came of a test: for people, as JSON, and as JUnit's XML, which CI systems show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import click

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was tried."""

    act: str
    name: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0


def count(cases: Sequence[Case], outcome: str) -> int:
    """How many ended so."""
    return sum(case.outcome == outcome for case in cases)


def show(cases: Sequence[Case]) -> None:
    """A line for each act, and for whatever didn't pass."""
    for act in dict.fromkeys(case.act for case in cases):
        of_act = [case for case in cases if case.act == act]
        click.echo(f"{act}: {summary(of_act)}")
        for case in of_act:
            if case.outcome != PASSED:
                click.echo(f"  {case.outcome}: {case.name}" + (f": {case.reason}" if case.reason else ""))
    click.echo(f"altogether: {summary(cases)}")


def summary(cases: Sequence[Case]) -> str:
    """Counts in words."""
    return (
        ", ".join(f"{count(cases, one)} {one}" for one in (PASSED, FAILED, SKIPPED) if count(cases, one)) or "nothing"
    )


def document(cases: Sequence[Case]) -> dict[str, Any]:
    """One JSON object."""
    return {
        "apiVersion": "tortie.dev/v1",
        "kind": "ConnectivityTest",
        "passed": count(cases, PASSED),
        "failed": count(cases, FAILED),
        "skipped": count(cases, SKIPPED),
        "cases": [
            {
                "act": case.act,
                "name": case.name,
                "outcome": case.outcome,
                "reason": case.reason,
                "seconds": case.seconds,
            }
            for case in cases
        ],
    }


def junit(cases: Sequence[Case]) -> str:
    """XML of one suite for each act (github.com/testmoapp/junitxml says what CI systems read)."""
    top = ElementTree.Element("testsuites", _counts("tortie connectivity", cases))
    for act in dict.fromkeys(case.act for case in cases):
        of_act = [case for case in cases if case.act == act]
        suite = ElementTree.SubElement(top, "testsuite", _counts(act, of_act))
        for case in of_act:
            said = {"classname": f"connectivity.{act}", "name": case.name, "time": f"{case.seconds:.3f}"}
            one = ElementTree.SubElement(suite, "testcase", said)
            if case.outcome != PASSED:
                tag = "failure" if case.outcome == FAILED else "skipped"
                ElementTree.SubElement(one, tag, {"message": case.reason})
    ElementTree.indent(top)
    return ElementTree.tostring(top, encoding="unicode", xml_declaration=True)


def _counts(name: str, cases: Sequence[Case]) -> dict[str, str]:
    return {
        "name": name,
        "tests": str(len(cases)),
        "failures": str(count(cases, FAILED)),
        "skipped": str(count(cases, SKIPPED)),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }
