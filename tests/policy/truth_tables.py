"""The cases of tests/data/netpol-cases.tar.xz as values; see tests/data/README.md."""

import functools
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from datastore.resources.kubernetes import Namespace, Pod
from datastore.resources.networkpolicy import NetworkPolicy
from policy import endpoints, networkpolicy
from policy.evaluate import Snapshot
from policy.model import Direction, Endpoint, EndpointId, Policy, Protocol
from tests.policy import cluster

ARCHIVE = Path(__file__).parents[1] / "data" / "netpol-cases.tar.xz"
SUITES = ("cyclonus-cases", "e2e-cases", "recipes-cases")
"""Suites about NetworkPolicy; npa-cases is about another kind."""
PROBES = 109_956 + 506 + 1_098
"""Rows of each suite that expect allow or deny between two pods: losing some on the way must not go unnoticed."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One connection and what is expected of it; `sides` where a direction alone is expected to deny."""

    source: EndpointId
    destination: EndpointId
    protocol: Protocol
    port: int
    allowed: bool
    sides: Mapping[Direction, bool]


@dataclass(frozen=True, slots=True)
class Step:
    """The cluster at one moment."""

    endpoints: tuple[Endpoint, ...]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: tuple[Policy, ...]
    probes: tuple[Probe, ...]

    def snapshot(self) -> Snapshot:
        """What `evaluate` is asked about."""
        return cluster.snapshot(self.endpoints, self.policies, self.namespaces)


@dataclass(frozen=True, slots=True)
class Case:
    """A case with its steps still as text, since reading them all takes a second."""

    id: str
    files: tuple[tuple[str, str, str], ...]
    """For each step: cluster, policies, expected."""

    def steps(self) -> Iterator[Step]:
        """The steps in order."""
        for objects, policies, expected in self.files:
            found, namespaces = _objects(objects)
            yield Step(found, namespaces, _policies(policies), tuple(_probes(expected)))


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every case of the suites."""
    texts: dict[str, str] = {}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.split("/")[0] in SUITES else None
            if file is not None:
                texts[member.name] = file.read().decode()
    return tuple(_case(name.rpartition("/")[0], texts) for name in sorted(texts) if name.endswith("/case.yaml"))


def _case(folder: str, texts: Mapping[str, str]) -> Case:
    about = yaml.load(texts[f"{folder}/case.yaml"], Loader=yaml.CSafeLoader)
    steps = [f"{folder}/step-{step}" for step in range(1, about["steps"] + 1)]
    files = tuple((texts[f"{s}.cluster.yaml"], texts[f"{s}.policies.yaml"], texts[f"{s}.expected.json"]) for s in steps)
    return Case(f"{folder.replace('-cases', '')}: {about['name']}", files)


@functools.lru_cache(maxsize=64)
def _objects(text: str) -> tuple[tuple[Endpoint, ...], Mapping[str, Mapping[str, str]]]:
    found, namespaces = [], {}
    for resource in cluster.resources(text):
        if isinstance(resource, Pod):
            endpoint = endpoints.from_pod(resource)
            if endpoint is not None:
                found.append(endpoint)
        elif isinstance(resource, Namespace):
            namespaces[resource.name] = resource.metadata.labels
    return tuple(found), namespaces


def _policies(text: str) -> tuple[Policy, ...]:
    return tuple(networkpolicy.convert(one) for one in cluster.resources(text) if isinstance(one, NetworkPolicy))


def _probes(text: str) -> Iterator[Probe]:
    for row in json.loads(text):
        for key, verdict in {} if row.get("self") else row["expect"].items():
            if verdict != "any":
                protocol, _, port = key.partition("/")
                sides = {side: row[side.value][key] == "allow" for side in Direction if key in row.get(side.value, {})}
                yield Probe(row["from"], row["to"], Protocol(protocol), int(port), verdict == "allow", sides)
