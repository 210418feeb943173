"""policy evaluate: Kubernetes YAML in, one JSON line a probe out; every truth table by way of files."""

import json
from pathlib import Path

import pytest

from tests.ctl.conftest import Ctl
from tests.policy.truth_tables import Case, cases

CLUSTER = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: postgres, containerPort: 5432}]}]}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop}
spec: {hostNetwork: true, nodeName: n1}
status: {podIP: 10.0.0.1}
"""
POLICIES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: postgres}]}]
"""


def evaluated(
    ctl: Ctl, tmp_path: Path, probes: object, cluster: str = CLUSTER, policies: str = POLICIES
) -> list[dict[str, str]]:
    for name, text in {"cluster.yaml": cluster, "policies.yaml": policies, "probes.json": json.dumps(probes)}.items():
        (tmp_path / name).write_text(text)
    said = ctl(
        "policy", "evaluate", "--cluster", "cluster.yaml", "--policies", "policies.yaml", "--probes", "probes.json"
    )
    assert said.status == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


def test_verdicts_come_in_order_with_their_reasons(ctl: Ctl, tmp_path: Path) -> None:
    probes = [
        {"from": "shop/web", "to": "shop/db", "port": 5432, "protocol": "TCP"},
        {"from": "shop/db", "to": "shop/web", "port": 80},
        {"from": "ip:192.0.2.1", "to": "shop/db", "port": 5432},
        {"from": "shop/agent", "to": "shop/db", "port": 22},
        {"from": "ip:10.1.0.1", "to": "ip:10.1.0.2", "port": 5432},
    ]
    answers = evaluated(ctl, tmp_path, probes)
    assert [answer["verdict"] for answer in answers] == ["deny", "allow", "deny", "allow", "deny"]
    assert "ingress[0].from[0].podSelector app=api does not match app=web" in answers[0]["reason"]
    assert answers[3]["reason"] == "a node always reaches its own pods"


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        pytest.param([{"from": "shop/nosuch", "to": "shop/db", "port": 1}], "[0]: shop/nosuch", id="no such pod"),
        pytest.param([{"from": "ip:x", "to": "shop/db", "port": 1}], "[0]", id="no address"),
        pytest.param([{"from": "shop/web", "to": "shop/db", "port": 70000}], "70000", id="port 70000"),
        pytest.param([{"from": "shop/web", "to": "shop/db", "port": 1, "protocol": "ICMP"}], "ICMP", id="no protocol"),
        pytest.param([{"from": "shop/web", "to": "shop/db"}], "port", id="no port"),
        pytest.param([{"from": "shop/web", "to": "shop/db", "port": 1, "x": 1}], "x", id="a key too many"),
        pytest.param({"from": 1}, "no list of probes", id="no list"),
    ],
)
def test_bad_probes_are_one_line_that_names_file_and_probe(ctl: Ctl, tmp_path: Path, probes: object, said: str) -> None:
    for name, text in {"c.yaml": CLUSTER, "p.yaml": POLICIES, "probes.json": json.dumps(probes)}.items():
        (tmp_path / name).write_text(text)
    refused = ctl("policy", "evaluate", "--cluster", "c.yaml", "--policies", "p.yaml", "--probes", "probes.json")
    assert refused.status == 2
    assert (refused.out, refused.err.count("\n")) == ("", 1)
    assert "probes.json" in refused.err
    assert said in refused.err


_SAMPLE = [case for place, case in enumerate(cases()) if place % 12 == 0]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in _SAMPLE])
def test_truth_tables_by_way_of_files(ctl: Ctl, tmp_path: Path, case: Case) -> None:
    for step, (objects, policies, _) in zip(case.steps(), case.files, strict=True):
        probes = [
            {"from": one.source, "to": one.destination, "port": one.port, "protocol": one.protocol.value}
            for one in step.probes
        ]
        answers = evaluated(ctl, tmp_path, probes, objects, policies)
        assert [answer["verdict"] == "allow" for answer in answers] == [one.allowed for one in step.probes]


def test_an_object_of_the_cluster_that_cannot_be_understood_is_named_with_its_file(ctl: Ctl, tmp_path: Path) -> None:
    files = {"cluster.yaml": CLUSTER.replace("podIP: 10.1.0.1", "podIP: nowhere"), "policies.yaml": POLICIES}
    for name, text in {**files, "probes.json": "[]"}.items():
        (tmp_path / name).write_text(text)
    arguments = [word for name in ("cluster", "policies") for word in (f"--{name}", str(tmp_path / f"{name}.yaml"))]
    said = ctl("policy", "evaluate", *arguments, "--probes", str(tmp_path / "probes.json"))
    assert said.status == 2
    assert all(words in said.err for words in ("cluster.yaml", "Pod shop/web", "nowhere"))
