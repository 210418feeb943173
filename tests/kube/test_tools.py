"""status, connectivity test and sysdump on a real API server; kubelets are played where one is needed."""

import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ctl import kubectl
from ctl.connectivity import run as connectivity
from ctl.failures import told
from ctl.installation import Meta
from datastore.errors import Forbidden
from datastore.kubernetes import requests as api
from datastore.kubernetes.address import KubernetesAddress
from tests.ctl.conftest import Ctl, Said
from tests.host import BIN
from tests.kube.apiserver import ADMIN_TOKEN, NOBODY_TOKEN, ApiServer
from tests.kube.kubelet import always_open, playing
from tests.kube.programs import KUBECTL
from tests.kube.server import wait_for


class Named(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()


SYSTEM = "tortie-system"
LABELS = {"app": "tortie-agent"}
HUSH = "hunter2"


@pytest.fixture
def config(server: ApiServer, tmp_path: Path) -> Path:
    return server.kubeconfig(tmp_path / "kubeconfig", {"token": ADMIN_TOKEN})


@pytest.fixture
def tool(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ctl:
    """`kubectl tortie ... --kubeconfig`, in this process."""
    monkeypatch.setenv("TORTIE_DATASTORE", "")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        status = told(lambda: kubectl.run([*arguments, "--kubeconfig", str(config)]))
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def installed(server: ApiServer) -> Iterator[ApiServer]:
    """Two nodes, a DaemonSet whose pod is Ready on the first and can't be pulled on the second, a leader, a pool."""
    server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    kube_node(server, "n1", ready=True)
    kube_node(server, "n2", ready=False)
    container = {"name": "agent", "image": "localhost/tortie:dev"}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": LABELS}, "template": template}
    daemonset = {"metadata": {"name": "tortie-agent"}, "spec": spec}
    server.make(f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets", daemonset)
    agent_pod(server, "tortie-agent-1", "n1", {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"})
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    waits: dict[str, Any] = {"name": "agent", "state": waiting}
    waits |= {"image": "", "imageID": "", "ready": False, "restartCount": 0}
    agent_pod(server, "tortie-agent-2", "n2", {"phase": "Pending", "containerStatuses": [waits]})
    server.make("/apis/tortie.dev/v1/nodes", our_node("n1"))
    server.make("/apis/tortie.dev/v1/ippools", {**ours("IPPool", "v4"), "spec": {"cidr": "10.65.0.0/16"}})
    lease = {"holderIdentity": "c1", "leaseDurationSeconds": 15, "renewTime": now()}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
    server.make(path, {"metadata": {"name": "tortie-controller"}, "spec": lease})
    yield server
    for kind in ("apps/v1/namespaces/%s/daemonsets", "coordination.k8s.io/v1/namespaces/%s/leases"):
        server.ask("DELETE", f"/apis/{kind % SYSTEM}")
    server.ask("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods?gracePeriodSeconds=0")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def ours(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "tortie.dev/v1", "kind": kind, "metadata": {"name": name}}


def our_node(name: str) -> dict[str, Any]:
    return {**ours("Node", name), "spec": {"machine": f"m-{name}", "addresses": ["10.0.0.1"]}}


def kube_node(server: ApiServer, name: str, *, ready: bool) -> None:
    made = server.make("/api/v1/nodes", {"metadata": {"name": name}})
    word = "True" if ready else "False"
    made["status"] = {
        "conditions": [{"type": "Ready", "status": word, "reason": "r", "message": "cni not initialized"}]
    }
    status, answer = server.ask("PUT", f"/api/v1/nodes/{name}/status", made)
    assert status == 200, answer


def agent_pod(server: ApiServer, name: str, node: str, status: dict[str, Any]) -> None:
    variables = [{"name": "DB_PASSWORD", "value": HUSH}, {"name": "TORTIE_NODE", "value": node}]
    spec = {"nodeName": node, "containers": [{"name": "agent", "image": "localhost/tortie:dev", "env": variables}]}
    path = f"/api/v1/namespaces/{SYSTEM}/pods"
    made = server.make(path, {"metadata": {"name": name, "labels": LABELS}, "spec": spec})
    code, answer = server.ask("PUT", f"{path}/{name}/status", {**made, "status": status})
    assert code == 200, answer


def namespaces_left(server: ApiServer) -> list[str]:
    _, found = server.ask("GET", "/api/v1/namespaces")
    return [name for one in found["items"] if (name := one["metadata"]["name"]).startswith("tortie-test")]


# requests


async def test_a_list_is_read_page_by_page(server: ApiServer, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_PAGE", "2")
    async with api.requests(KubernetesAddress(config)) as requests:
        names = {one.metadata.name for one in await requests.items("/api/v1/namespaces", Named)}
        assert {"default", "kube-system", "shop", "bank"} <= names
        assert await requests.read("/api/v1/namespaces/nosuch", Named) is None
        assert await requests.items("/apis/nosuch.example/v1/things", Named) == []
        assert not await requests.delete("/api/v1/namespaces/nosuch")


async def test_who_may_not_is_told_so(server: ApiServer, tmp_path: Path) -> None:
    nobody = server.kubeconfig(tmp_path / "nobody", {"token": NOBODY_TOKEN})
    async with api.requests(KubernetesAddress(nobody)) as requests:
        with pytest.raises(Forbidden):
            await requests.items("/api/v1/nodes", Meta)


# status


def test_nodes_are_compared_with_kubernetes_and_with_the_agents_pods(installed: ApiServer, tool: Ctl) -> None:
    said = tool("status", "-o", "json")
    assert said.status == 1, said.err
    found = json.loads(said.out)
    assert [(one["name"], one["status"]) for one in found["nodes"]] == [("n1", "ready"), ("n2", "NotReady")]
    assert found["controller"]["leader"] == "c1"
    assert found["policies"] == {"count": 0, "agentsAsked": 2, "agentsProgrammed": 1}
    told_ = {one["message"]: one["next"] for one in found["warnings"]}
    assert told_["node n2 isn't Ready: cni not initialized"] == "kubectl describe node n2"
    agent = "the agent of n2 isn't ready: container agent waits: ErrImagePull no such image"
    assert told_[agent] == "kubectl -n tortie-system describe pod tortie-agent-2"
    assert len(told_) == 3, told_


def test_waiting_ends_when_all_is_well(installed: ApiServer, tool: Ctl) -> None:
    installed.ask("DELETE", "/api/v1/nodes/n2")
    installed.ask("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/tortie-agent-2?gracePeriodSeconds=0")
    said = tool("status", "--wait=30")
    assert said.status == 0, said.out
    assert "all is well" in said.out
    assert "programmed on 1 of 1 nodes" in said.out


def test_kubectl_finds_the_plugin_and_hands_its_flags_on(installed: ApiServer, config: Path) -> None:
    command = (str(KUBECTL), "tortie", "status", "--kubeconfig", str(config), "-o", "json")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    assert [one["name"] for one in json.loads(done.stdout)["nodes"]] == ["n1", "n2"]


# connectivity test


def test_a_network_that_works_passes_and_nothing_of_the_test_stays(
    installed: ApiServer, tool: Ctl, tmp_path: Path
) -> None:
    kube_node(installed, "n3", ready=True)
    with playing(installed) as kubelet:
        said = tool("connectivity", "test", "-o", "json", "--junit", "report.xml")
    assert said.status == 0, said.out + said.err
    found = json.loads(said.out)
    assert found["failed"] == 0
    assert found["passed"] > 20
    skipped = [one["reason"] for one in found["cases"] if one["outcome"] == "skipped"]
    assert skipped == ["there is no Service kube-system/kube-dns"]
    assert "node n2 is left out, it isn't Ready: cni not initialized" in said.err
    assert "from localhost/tortie:dev" in said.err
    assert "<testsuites" in (tmp_path / "report.xml").read_text()
    assert len(kubelet.seen) == 1
    assert namespaces_left(installed) == []


def test_a_network_without_policies_fails_with_what_was_heard(installed: ApiServer, tool: Ctl) -> None:
    with playing(installed, always_open):
        said = tool("connectivity", "test", "--namespace-prefix", "tortie-test-x")
    assert said.status == 1
    assert "failed: client on n1 doesn't reach the pod on its own node" in said.out
    assert "was open, expected silent" in said.out
    assert namespaces_left(installed) == []


def test_an_image_that_isnt_there_is_told_soon(
    installed: ApiServer, tool: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectivity, "_HOPELESS_S", 0.0)
    with playing(installed, waits="ErrImagePull"):
        said = tool("connectivity", "test", "--image", "nosuch", "--timeout", "60")
    assert said.status == 1
    assert "the server on n1 starts: container main waits: ErrImagePull no such image" in said.out
    assert namespaces_left(installed) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_an_interrupted_test_cleans_up_too(installed: ApiServer, config: Path, number: signal.Signals) -> None:
    command = (str(BIN / "kubectl-tortie"), "connectivity", "test", "--kubeconfig", str(config), "--image", "i")
    with playing(installed, waits="ContainerCreating") as kubelet, subprocess.Popen(command, env=os.environ) as one:
        wait_for("the test's namespace", lambda: bool(kubelet.seen))
        one.send_signal(number)
        assert one.wait(60) == 130
        assert namespaces_left(installed) == []


# sysdump


def test_an_archive_has_objects_and_events_and_no_secret(installed: ApiServer, tool: Ctl, tmp_path: Path) -> None:
    secret = {"metadata": {"name": "s"}, "stringData": {"password": HUSH}}
    installed.ask("POST", f"/api/v1/namespaces/{SYSTEM}/secrets", secret)
    event = {
        "metadata": {"name": "e.1", "namespace": SYSTEM},
        "involvedObject": {"kind": "Pod", "namespace": SYSTEM, "name": "tortie-agent-2"},
        "type": "Warning",
        "reason": "Failed",
        "message": f"pulling https://me:{HUSH}@registry/tortie failed",
    }
    installed.ask("DELETE", f"/api/v1/namespaces/{SYSTEM}/events")
    installed.make(f"/api/v1/namespaces/{SYSTEM}/events", event)
    said = tool("sysdump", "--output", "dump.tar.gz")
    assert said.status == 0, said.err
    contents = {}
    with tarfile.open(tmp_path / "dump.tar.gz") as archive:
        for name in archive.getnames():
            file = archive.extractfile(name)
            contents[name.partition("/")[2]] = file.read().decode() if file else ""
    assert next(iter(contents)) == "SUMMARY.txt"
    assert "the agent of n2 isn't ready" in contents["SUMMARY.txt"]
    assert "Failed: pulling https://REDACTED@registry/tortie failed" in contents["SUMMARY.txt"]
    assert '"TORTIE_NODE"' in contents[f"{SYSTEM}/pods.json"]
    assert "10.65.0.0/16" in contents["objects/ippools.tortie.dev.json"]
    assert "logs/tortie-agent-1/agent.log" in said.err  # there is no kubelet to ask
    assert HUSH not in "".join(contents.values())
