"""The well-known NetworkPolicy recipes with real packets: every probe of every case, in both families."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import yaml

from policy.model import Protocol
from tests.lab.cluster import Cluster
from tests.policy.truth_tables import Case, Step, cases

_RECIPES = [case for case in cases() if case.id.startswith("recipes")]


@pytest.fixture(scope="module")
def emptied(lab_cluster: Cluster) -> Iterator[Cluster]:
    yield lab_cluster
    lab_cluster.clear()


def by_cluster(case: Case) -> str:
    return case.files[0][0]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in sorted(_RECIPES, key=by_cluster)])
def test_packets_do_what_the_recipe_says(emptied: Cluster, case: Case) -> None:
    for step, (objects, policies, _) in zip(case.steps(), case.files, strict=True):
        make_pods(emptied, step, objects)
        emptied.done("apply", "-f", "-", stdin=without_pods(objects) + "\n---\n" + policies)
        with ThreadPoolExecutor(max_workers=9) as pool:
            wrong = list(pool.map(partial(mistakes, emptied, step), sources(step)))
        assert [told for some in wrong for told in some] == []
        emptied.done("delete", "-f", "-", stdin=policies)


def make_pods(cluster: Cluster, step: Step, objects: str) -> None:
    """The step's pods, kept from the case before where they are the same."""
    wanted = {endpoint.id: dict(endpoint.labels) for endpoint in step.endpoints}
    there = {f"{pod.namespace}/{pod.name}": _labels(pod.extra) for pod in cluster.folder.pods()}
    if there != wanted:
        cluster.clear()
        ports = sorted({f"{probe.port}/{probe.protocol.value}" for probe in step.probes})
        cluster.run_all({name: (labels, ports) for name, labels in wanted.items()})


def mistakes(cluster: Cluster, step: Step, source: str) -> list[str]:
    """Probes of one pod that did not come out as expected."""
    probes = [probe for probe in step.probes if probe.source == source]
    asked = [(probe, address) for probe in probes for address in cluster.addresses(probe.destination)]
    heard = cluster.probe(source, *((address, probe.port, probe.protocol.value) for probe, address in asked))
    return [
        f"{source} -> {probe.destination} ({address}) TCP/{probe.port}: {word}, should be allowed: {probe.allowed}"
        for (probe, address), word in zip(asked, heard, strict=True)
        if (word == "open") != probe.allowed
    ]


def sources(step: Step) -> list[str]:
    assert all(probe.protocol is Protocol.TCP for probe in step.probes)
    return sorted({probe.source for probe in step.probes})


def without_pods(objects: str) -> str:
    documents = yaml.load_all(objects, Loader=yaml.CSafeLoader)
    return yaml.dump_all([one for one in documents if one and one["kind"] == "Namespace"], Dumper=yaml.CSafeDumper)


def _labels(extra: object) -> dict[str, str]:
    labels = json.loads(json.dumps(extra))["args"]["cni"]["labels"]
    return {label["key"]: label["value"] for label in labels}
