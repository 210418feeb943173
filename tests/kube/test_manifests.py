"""manifests/: everything of it is taken by an API server, and what is rendered from it is the same thing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni import conflist
from tests.host import ROOT
from tests.kube.apiserver import ADMIN_TOKEN
from tests.kube.cluster import control_plane, kubectl
from tests.kube.installed import MANIFESTS, NAMESPACE, installed
from tests.kube.programs import needs_kubernetes
from tests.pages import blocks

Document = dict[str, Any]
BASE = MANIFESTS / "base"
LOOKS = ("get ippools", "get nodes.tortie.dev", "get tortie", "explain ippool.spec")
"""In the page's order: kubectl learns of a new category by being asked for a new kind."""
MAX_BYTES = 60_000
"""An annotation holds what `kubectl apply` applied last, and may have 256 KiB altogether."""


def documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def rendered(folder: Path = MANIFESTS) -> list[Document]:
    return documents(kubectl(folder / "none", "kustomize", folder).stdout)


def one(kind: str, name: str, among: list[Document]) -> Document:
    (found,) = (each for each in among if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def config() -> Path:
    return installed().kubeconfig(control_plane().folder / "manifests.kubeconfig", {"token": ADMIN_TOKEN})


def workload(name: str) -> tuple[Document, list[Document]]:
    """The pod's spec of a program, and every container in it."""
    (found,) = (
        each
        for path in BASE.glob("*.yaml")
        for each in documents(path.read_text())
        if each["kind"] in ("DaemonSet", "Deployment") and each["metadata"]["name"] == name
    )
    spec = found["spec"]["template"]["spec"]
    return spec, [*spec.get("initContainers", ()), *spec["containers"]]


@needs_kubernetes
def test_install_yaml_is_what_the_folder_renders() -> None:
    rendered_now = kubectl(MANIFESTS / "none", "kustomize", MANIFESTS).stdout
    assert (MANIFESTS / "install.yaml").read_text() == rendered_now, "make manifests writes it anew"


@needs_kubernetes
def test_every_object_is_small_enough_for_kubectl_apply() -> None:
    assert all(len(json.dumps(document)) < MAX_BYTES for document in rendered())


@needs_kubernetes
def test_everything_applies_and_applying_again_changes_nothing() -> None:
    again = kubectl(config(), "apply", "--server-side", "-k", MANIFESTS).stdout.splitlines()
    assert len(again) == len(rendered())
    assert kubectl(config(), "diff", "--server-side", "-k", MANIFESTS, check=False).returncode == 0


@needs_kubernetes
@pytest.mark.parametrize("what", ["overlays/etcd", "overlays/k3s", "cleanup"])
def test_an_overlay_applies(what: str) -> None:
    kubectl(config(), "apply", "--server-side", "--dry-run=server", "-k", MANIFESTS / what)


@needs_kubernetes
def test_install_yaml_applies_without_server_side_too() -> None:
    said = kubectl(config(), "apply", "--dry-run=server", "-f", MANIFESTS / "install.yaml")
    assert "Error" not in said.stderr


@needs_kubernetes
@pytest.mark.parametrize("block", range(len(blocks("kubernetes.md", "yaml"))))
def test_what_the_page_has_in_yaml_is_taken(block: int, tmp_path: Path) -> None:
    text = blocks("kubernetes.md", "yaml")[block]
    if "kind: Kustomization" in text:
        found = yaml.safe_load(text)
        (resource,) = found["resources"]
        found["resources"] = [os.path.relpath(MANIFESTS / resource.partition("/manifests")[2].lstrip("/"), tmp_path)]
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(found))
        rendered_now = kubectl(MANIFESTS / "none", "kustomize", tmp_path).stdout
        told = [one.get("newName") for one in found.get("images", ())]
        told += [one for part in found.get("configMapGenerator", ()) for one in _settings(part["literals"])]
        assert all(str(one) in rendered_now for one in told)
        return
    (tmp_path / "page.yaml").write_text(text)
    kubectl(config(), "apply", "--dry-run=server", "-f", tmp_path / "page.yaml")


def _settings(literals: list[str]) -> list[str]:
    return [literal.partition("=")[2] for literal in literals]


@needs_kubernetes
@pytest.mark.parametrize("command", LOOKS)
def test_what_the_page_looks_with_answers(command: str) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert f"kubectl {command}" in page
    kubectl(config(), *command.split())


@needs_kubernetes
def test_k3s_has_its_own_folders_and_nothing_else_differs() -> None:
    base, found = rendered(), rendered(MANIFESTS / "overlays" / "k3s")
    paths = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in one("DaemonSet", "tortie-agent", found)["spec"]["template"]["spec"]["volumes"]
        if "hostPath" in volume
    }
    assert paths["cni-bin"] == "/var/lib/rancher/k3s/data/cni"
    assert paths["cni-conf"] == "/var/lib/rancher/k3s/agent/etc/cni/net.d"
    assert [each for each in base if each["kind"] != "DaemonSet"] == [
        each for each in found if each["kind"] != "DaemonSet"
    ]


@needs_kubernetes
def test_with_etcd_both_programs_are_told_where_it_is() -> None:
    found = rendered(MANIFESTS / "overlays" / "etcd")
    for kind, name in (("DaemonSet", "tortie-agent"), ("Deployment", "tortie-controller")):
        (container,) = one(kind, name, found)["spec"]["template"]["spec"]["containers"]
        assert container["args"][:4] == ["--datastore", "$(TORTIE_DATASTORE)", "--kubernetes", "kubernetes:"]
        assert container["envFrom"] == [{"configMapRef": {"name": "tortie-datastore"}}]
        assert "/etc/tortie-etcd" in [mount["mountPath"] for mount in container["volumeMounts"]]


@needs_kubernetes
def test_with_etcd_agents_watch_nothing_and_nobody_has_rights_in_our_group() -> None:
    found = rendered(MANIFESTS / "overlays" / "etcd")
    assert not [one for one in found if one["kind"] in ("CustomResourceDefinition", "Role")]
    for rule in one("ClusterRole", "tortie-agent", found)["rules"]:
        assert "watch" not in rule["verbs"]
    rules = [rule for each in found if each["kind"] == "ClusterRole" for rule in each["rules"]]
    assert {group for rule in rules for group in rule["apiGroups"]} == {"", "networking.k8s.io"}


@pytest.mark.parametrize("name", ["tortie-agent", "tortie-controller"])
def test_nothing_is_privileged(name: str) -> None:
    spec, containers = workload(name)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.get("hostPID")
    assert not spec.get("hostIPC")
    for container in containers:
        held = container["securityContext"]
        assert held["readOnlyRootFilesystem"]
        assert not held.get("privileged")
        assert not held["allowPrivilegeEscalation"]
        assert held["capabilities"]["drop"] == ["ALL"]
        added = ["NET_ADMIN", "NET_RAW"] if container["name"] == "agent" else None
        assert held["capabilities"].get("add") == added


def test_the_controller_is_no_root_and_mounts_nothing_of_its_host() -> None:
    spec, _ = workload("tortie-controller")
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 65532)
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]


def test_the_agent_runs_on_every_node_before_pods_have_a_network() -> None:
    spec, _ = workload("tortie-agent")
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert (spec["hostNetwork"], spec["priorityClassName"]) == (True, "system-node-critical")
    paths = {volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    assert paths == {
        *("/run/tortie", "/var/lib/tortie", "/run/xtables.lock", "/opt/cni/bin", "/etc/cni/net.d", "/proc/sys/net")
    }


@pytest.mark.parametrize("name", ["tortie-agent", "tortie-controller"])
def test_each_program_is_probed_and_has_resources(name: str) -> None:
    spec, _ = workload(name)
    (container,) = spec["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["startupProbe"]
    assert {"cpu", "memory"} == set(container["resources"]["requests"])
    port = container["args"][container["args"].index("--http") + 1]
    assert container["ports"] == [{"name": "http", "containerPort": int(port.removeprefix(":"))}]


def test_the_cleanup_has_what_the_agent_had_and_no_token() -> None:
    (found,) = documents((MANIFESTS / "cleanup" / "cleanup.yaml").read_text())
    spec, agent = found["spec"]["template"]["spec"], workload("tortie-agent")[0]
    assert not spec["automountServiceAccountToken"]
    volumes = {volume["name"]: volume for volume in agent["volumes"] if volume["name"] != "conflist"}
    assert {volume["name"]: volume for volume in spec["volumes"]} == volumes
    (cleanup,) = spec["initContainers"]
    held = {**agent["containers"][0]["securityContext"]}
    assert cleanup["securityContext"] == held
    assert (spec["tolerations"], spec["hostNetwork"]) == (agent["tolerations"], True)


def test_the_conflist_says_what_host_init_would_write() -> None:
    ours = json.loads((BASE / conflist.FILE_NAME).read_text())
    wanted = json.loads(conflist.render(conflist.Network(frozenset({4}), ("portmap",)), ["1.0.0"]))
    assert ours == {name: value for name, value in wanted.items() if name != "cniVersions"}


def test_accounts_have_no_secrets_no_wildcards_and_delete_no_pools() -> None:
    rules = [
        (document["metadata"]["name"], rule)
        for document in documents((BASE / "rbac.yaml").read_text())
        if document["kind"] in ("ClusterRole", "Role")
        for rule in document["rules"]
    ]
    for name, rule in rules:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]), name
        assert not {"secrets", "configmaps"} & set(rule["resources"]), name
        assert not ("delete" in rule["verbs"] and "ippools" in rule["resources"]), name
        assert "deletecollection" not in rule["verbs"], name


def test_everything_is_in_one_namespace() -> None:
    for path in sorted(BASE.glob("*.yaml")):
        for document in documents(path.read_text()):
            if document["kind"] in ("ServiceAccount", "DaemonSet", "Deployment", "Role", "RoleBinding"):
                assert document["metadata"]["namespace"] == NAMESPACE
