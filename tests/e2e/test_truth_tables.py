"""Kubernetes' own cases for NetworkPolicy (tests/data, e2e-cases) on a real cluster: every probe of every step.

Nine pods, three in each of three namespaces, stand for the pods of all cases: they take a step's labels, and addresses
in its policies become theirs. Cases that probe SCTP are left to tests/lab: not every kernel can serve it.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product

import pytest
import yaml

from policy.model import Protocol
from tests.e2e.documents import apply, namespace, pod, remove
from tests.e2e.running import Running, all_running, eventually
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.images import AGNHOST_IMAGE
from tests.policy.truth_tables import Case, Probe, cases

NAMESPACES = ("netpol-x", "netpol-y", "netpol-z")
NAMES = ("a", "b", "c")
PORTS = (80, 81)
_OTHER_NAMESPACES = re.compile(r"\budp-network-policy-([xyz])\b")
_SHORT_S = 0.4
"""For an answer on one machine; a probe that should be answered is made again, see `eventually`."""
_TABLES = [
    case
    for case in cases()
    if case.id.startswith("e2e") and not any("SCTP" in expected for _, _, expected in case.files)
]


@dataclass
class Pods:
    """Those that run, by namespace/name, and the labels that they and their namespaces have."""

    cluster: Cluster
    running: Mapping[str, Running]
    labels: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def label(self, path: str, wanted: Mapping[str, str]) -> None:
        """Give an object these labels alone."""
        had = self.labels.get(path, {})
        if had != wanted:
            gone: dict[str, str | None] = dict.fromkeys(had)
            self.cluster.api.merge(path, {"metadata": {"labels": gone | dict(wanted)}})
            self.labels[path] = wanted

    def mistakes(self, probes: list[Probe]) -> list[str]:
        """Probes that don't come out as expected."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            heard = list(pool.map(self._heard, probes))
        return [
            f"{probe.source} -> {probe.destination} {probe.protocol.value}/{probe.port}: {word}"
            for probe, word in zip(probes, heard, strict=True)
            if (word == "open") != probe.allowed
        ]

    def _heard(self, probe: Probe) -> str:
        source, destination = self.running[probe.source], self.running[probe.destination]
        return source.place.hears(destination.address, probe.port, probe.protocol.value, _SHORT_S)


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[Pods]:
    spaces = [namespace(name) for name in NAMESPACES]
    places = list(product(NAMESPACES, NAMES))
    apply(cluster, *spaces, *(pod(name, server(), in_namespace=where) for where, name in places))
    found = {one: all_running(cluster, "", len(NAMES), one) for one in NAMESPACES}
    yield Pods(cluster, {f"{where}/{one.name}": one for where, some in found.items() for one in some})
    remove(cluster, *spaces)


def server() -> Document:
    """A pod's spec: every port by TCP and UDP, under the names that the cases use."""
    one, other = (f"/agnhost netexec --http-port={port} --udp-port={port}" for port in PORTS)
    ports = [
        {"containerPort": port, "protocol": protocol, "name": f"serve-{port}-{protocol.lower()}"}
        for port, protocol in product(PORTS, ("TCP", "UDP"))
    ]
    container = {"name": "c", "image": AGNHOST_IMAGE, "command": ["sh", "-c", f"{one} & exec {other}"], "ports": ports}
    return {"terminationGracePeriodSeconds": 0, "containers": [container]}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in _TABLES])
def test_packets_do_what_kubernetes_says(pods: Pods, case: Case) -> None:
    renamed = Case(case.id, tuple((ours(a), ours(b), ours(c)) for a, b, c in case.files))
    for step, (objects, policies, _) in zip(renamed.steps(), renamed.files, strict=True):
        for document in yaml.load_all(objects, Loader=yaml.CSafeLoader):
            take_labels(pods, document)
        if policies.strip():
            pods.cluster.kubectl("apply", "-f", "-", stdin=with_our_addresses(pods, objects, policies))
        probes = [probe for probe in step.probes if probe.protocol is not Protocol.SCTP]
        eventually(
            f"{case.id}: {len(probes)} probes",
            lambda probes=probes: not pods.mistakes(probes),  # type: ignore[misc]
        )
        for where in NAMESPACES:
            pods.cluster.api.ask("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{where}/networkpolicies")


def ours(text: str) -> str:
    """A case's text with our namespaces."""
    return _OTHER_NAMESPACES.sub(r"netpol-\1", text)


def take_labels(pods: Pods, document: Document) -> None:
    metadata = document["metadata"]
    if document["kind"] == "Namespace":
        pods.label(f"/api/v1/namespaces/{metadata['name']}", metadata.get("labels", {}))
    else:
        pods.label(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", metadata.get("labels", {}))


def with_our_addresses(pods: Pods, objects: str, policies: str) -> str:
    """The policies, with addresses of the case's pods become those of ours."""
    for document in yaml.load_all(objects, Loader=yaml.CSafeLoader):
        if document["kind"] == "Pod":
            found = pods.running[f"{document['metadata']['namespace']}/{document['metadata']['name']}"]
            policies = policies.replace(f"{document['status']['podIP']}/32", f"{found.address}/32")
    return policies


def test_no_case_is_lost() -> None:
    assert len(_TABLES) == 45
