"""connectivity test: what it asks and expects, how it reports, and what its pods run; the whole is in tests/kube."""

import json
from xml.etree import ElementTree

import pytest

from ctl.connectivity import inside, objects, plan, report
from ctl.connectivity.plan import ALLOW, CLIENT, DENY, HOST, NO_POLICY, STRANGER, Asker, Probe, Targets
from tests.ctl.conftest import Ctl
from tests.sandbox import needs_sandbox

TWO = Targets({"a": ("10.0.0.1", "fd00::1"), "b": ("10.0.0.2", "fd00::2")}, ("10.96.0.9",), "server")
CASES = [
    report.Case(NO_POLICY, "a reaches b", report.PASSED, seconds=0.01),
    report.Case(DENY, 'a doesn\'t reach "b"', report.FAILED, "10.0.0.2 was open, expected silent"),
    report.Case(NO_POLICY, "DNS", report.SKIPPED, "there is none"),
]


def probes(act: str, role: str) -> list[Probe]:
    return [probe for one in plan.askers(act, TWO) if one.role == role for probe in one.probes]


def test_without_policy_every_pair_the_service_the_name_and_the_node_are_tried() -> None:
    names = [probe.name for probe in probes(NO_POLICY, CLIENT)]
    for name in (
        "client on a reaches the pod on its own node, TCP IPv4",
        "client on a reaches the pod on b, TCP IPv6",
        "client on b reaches the pod on a, UDP IPv4",
        "client on b reaches the ClusterIP, TCP IPv4",
        "client on a finds the Service's name",
    ):
        assert name in names
    assert "host on a reaches the pod on b, TCP IPv4" in [probe.name for probe in probes(NO_POLICY, HOST)]
    assert len(names) == len(set(names))


def test_a_default_deny_silences_pods_and_leaves_the_node_its_own() -> None:
    assert {probe.expected for probe in probes(DENY, CLIENT)} == {plan.SILENT}
    assert {probe.address for probe in probes(DENY, HOST)} == {"10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"}
    assert {probe.expected for probe in probes(DENY, HOST)} == {plan.OPEN}


def test_the_exception_is_for_clients_alone() -> None:
    assert {probe.expected for probe in probes(ALLOW, CLIENT)} == {plan.OPEN}
    assert {probe.expected for probe in probes(ALLOW, STRANGER)} == {plan.SILENT}


def test_a_service_of_two_families_is_asked_in_that_of_its_servers() -> None:
    old = Targets({"a": ("10.0.0.1",), "b": ("10.0.0.2",)}, ("10.96.0.9", "fd96::9"))
    asked = {probe.address for act in plan.ACTS for one in plan.askers(act, old) for probe in one.probes}
    assert asked == {"10.0.0.1", "10.0.0.2", "10.96.0.9"}


def test_pods_are_asked_in_the_families_that_pods_of_the_askers_node_have() -> None:
    half = Targets({"a": ("10.0.0.1",), "b": ("10.0.0.2", "fd00::2")}, ("10.96.0.9", "fd96::9"))
    asked = {(one.node, probe.address) for one in plan.askers(NO_POLICY, half) for probe in one.probes}
    assert ("b", "fd96::9") in asked
    assert {address for node, address in asked if node == "a"} == {"10.0.0.1", "10.0.0.2", "10.96.0.9"}


def test_one_node_is_enough() -> None:
    one = Targets({"a": ("10.0.0.1",)}, ())
    assert all(plan.askers(act, one) for act in plan.ACTS)


def test_a_pod_has_no_right_and_no_token_and_its_node_is_chosen() -> None:
    pod = objects.asker("x", Asker(CLIENT, "a", (Probe("p", "10.0.0.1"),)), "image", 3)
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["nodeName"] == "a"
    assert not pod["spec"]["automountServiceAccountToken"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["command"][:3] == ["tortiectl", "connectivity", "probe"]
    assert json.loads(container["command"][-1]) == [["10.0.0.1", "TCP", "open"]]


def test_junit_has_a_suite_for_each_act_with_failures_and_reasons() -> None:
    top = ElementTree.fromstring(report.junit(CASES))  # noqa: S314  # our own
    assert (top.get("tests"), top.get("failures"), top.get("skipped")) == ("3", "1", "1")
    assert [suite.get("name") for suite in top] == [NO_POLICY, DENY]
    failure = top.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "10.0.0.2 was open, expected silent"


def test_the_table_shows_what_didnt_pass(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(CASES)
    said = capsys.readouterr().out
    assert "no policy: 1 passed, 1 skipped" in said
    assert "failed: a doesn't reach" in said
    assert "a reaches b" not in said


@needs_sandbox
def test_an_answer_is_what_was_heard_in_the_order_that_was_asked(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    asked = [["127.0.0.1", "TCP", "closed"], ["localhost", "DNS", "open"], ["127.0.0.1", "TCP", "open"]]
    said = ctl("connectivity", "probe", "--patience", "0.1", "--answer", f"{tmp_path}/answer", json.dumps(asked))
    assert [heard for heard, _ in json.loads(said.out)] == ["closed", "open", "closed"]
    with open(f"{tmp_path}/answer") as file:
        assert file.read() == said.out.strip()


def test_a_probe_is_tried_until_what_is_expected_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = iter(["open", "open", "silent"])
    monkeypatch.setattr(inside, "_heard", lambda *_: next(heard))
    assert inside.ask(("10.0.0.1", "TCP", "silent"), 5.0)[0] == "silent"


def test_a_datastore_that_is_no_kubernetes_is_told_what_there_is_instead(ctl: Ctl) -> None:
    said = ctl("connectivity", "test")
    assert said.status == 2
    assert "is no Kubernetes" in said.err
    assert "tortiectl lab probe" in said.err
