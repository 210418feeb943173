"""A cluster of one node that `kubeadm init` made: what docs/kubernetes.md types for "Install" makes it Ready."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.tortie import IMAGE, missing
from tests.host import ROOT
from tests.kube.programs import KUBERNETES
from tests.kube.whole import kubeadm
from tests.kube.whole.kubeadm import ADMIN, Made
from tests.kube.whole.machine import PATH
from tests.pages import Block, fences

TAINT = "node-role.kubernetes.io/control-plane"


@pytest.fixture(scope="module")
def made(able: None) -> Iterator[Made]:
    if reason := missing() or kubeadm.missing():
        pytest.skip(reason)
    with kubeadm.made() as found:
        found.node.load(IMAGE)
        yield found


def node(made: Made) -> dict[str, object]:
    return dict(json.loads(made.kubectl("get", "node", "node-1", "-o", "json")))


def install() -> Block:
    (block,) = (one for one in fences("kubernetes.md") if one.section == "Install")
    return block


def test_kubeadm_leaves_a_node_without_a_network_and_with_a_taint(made: Made) -> None:
    assert "Your Kubernetes control-plane has initialized successfully!" in made.said
    assert "cni plugin not initialized" in json.dumps(node(made)["status"])
    assert TAINT in json.dumps(node(made)["spec"])


def test_what_the_page_types_to_install_makes_it_ready(made: Made) -> None:
    environment = (f"PATH={KUBERNETES}:{PATH}", f"KUBECONFIG={ADMIN}")
    made.node.machine.run("env", *environment, "sh", "-ec", f"cd {ROOT}\n{install().text}", timeout_s=300)
    assert "True" in made.kubectl(
        "get", "node", "node-1", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    )
    pods = json.loads(made.kubectl("-n", "tortie-system", "get", "pods", "-o", "json"))["items"]
    assert {one["spec"]["nodeName"] for one in pods} == {"node-1"}
    assert {status["restartCount"] for one in pods for status in one["status"]["containerStatuses"]} == {0}


def test_a_pod_has_an_address_of_kubeadms_network(made: Made) -> None:
    made.kubectl("taint", "nodes", "--all", f"{TAINT}-")
    made.kubectl("run", "one", "--image=localhost/agnhost:1", "--", "pause")
    made.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=120s")
    assert made.kubectl("get", "pod", "one", "-o", "jsonpath={.status.podIP}").startswith("10.244.")
