"""A definition that is older than the program: the fields that would be lost are named, and no others."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from datastore.kubernetes.definitions import Definition, lacking
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.kinds import KINDS
from datastore.resources.value import Resource

CRDS = Path(__file__).parents[2] / "manifests" / "crds"
OURS = [kind for kind in KINDS if kind.KIND.group == "tortie.dev"]


def document(kind: type[Resource]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CRDS / f"{kind.KIND.plural}.yaml").read_text())
    return found


def judged(kind: type[Resource], found: dict[str, Any]) -> list[str]:
    return lacking(kind, msgspec.convert(found, Definition))


def without(found: dict[str, Any], *path: str) -> dict[str, Any]:
    """The definition without one property; `*path` goes through properties, `[]` into a list's elements."""
    part = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for step in path[:-1]:
        part = part["items"] if step == "[]" else part["properties"][step]
    del part["properties"][path[-1]]
    return found


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.KIND.plural)
def test_todays_definitions_know_everything(kind: type[Resource]) -> None:
    assert judged(kind, document(kind)) == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        pytest.param(("status", "conditions"), "status.conditions", id="a field of the status"),
        pytest.param(("spec", "natOutgoing"), "spec.natOutgoing", id="a field of the spec"),
        pytest.param(("status", "conditions", "[]", "reason"), "status.conditions.reason", id="in a list's element"),
        pytest.param(("status",), "status", id="all of the status"),
    ],
)
def test_what_an_older_definition_lacks_is_named(path: tuple[str, ...], named: str) -> None:
    assert judged(IPPool, without(document(IPPool), *path)) == [named]


def test_what_a_definition_keeps_without_knowing_it_is_not_lost() -> None:
    assert judged(IPBlock, without(document(IPBlock), "spec", "cell")) == []


def test_a_version_that_is_not_served_is_named() -> None:
    found = document(IPPool)
    found["spec"]["versions"][0]["served"] = False
    assert judged(IPPool, found) == ["version v1"]
