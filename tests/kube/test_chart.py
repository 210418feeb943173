"""The Helm chart says what manifests/ says: its templates are those files with values in a few places."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from tests.kube.installed import MANIFESTS
from tests.kube.programs import HELM, KUBERNETES, needs_helm, needs_kubernetes
from tests.kube.test_manifests import documents, one, rendered

pytestmark = [needs_helm, needs_kubernetes]
CHART = MANIFESTS / "chart"
_KEEP = {"helm.sh/resource-policy": "keep"}


def helm(*settings: str) -> str:
    """What `helm install` would apply.

    Raises:
        CalledProcessError: helm refuses the settings.
    """
    version = KUBERNETES.name.removeprefix("kubernetes-")
    command = [str(HELM), "template", "tortie", str(CHART), "--kube-version", version]
    command += [word for setting in settings for word in ("--set", setting)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def comparable(document: dict[str, Any]) -> str:
    """An object as text, without what the chart adds, and defaults as what they say."""
    if document["metadata"].get("annotations", {}) == _KEEP:
        del document["metadata"]["annotations"]
    if document["metadata"]["name"] == "tortie-defaults":
        document["data"] = list(yaml.safe_load_all(document["data"]["defaults.yaml"]))
        document["data"].sort(key=lambda each: str(each["kind"]))
    if document["metadata"]["name"] == "tortie-conflist":
        document["data"] = json.loads(document["data"]["10-tortie.conflist"])
    return json.dumps(document, sort_keys=True)


def test_it_makes_the_same_objects() -> None:
    assert sorted(map(comparable, documents(helm()))) == sorted(map(comparable, rendered(MANIFESTS)))


def test_the_custom_resources_outlive_a_release() -> None:
    kept = [each for each in documents(helm()) if each["metadata"].get("annotations") == _KEEP]
    assert len(kept) == len(list((MANIFESTS / "crds").glob("*.yaml"))) - 1
    assert {each["kind"] for each in kept} == {"CustomResourceDefinition"}


@pytest.mark.parametrize("name", ["agent", "controller"])
def test_with_an_etcd_a_program_is_as_the_overlay_has_it(name: str) -> None:
    overlay = MANIFESTS / "overlays" / "etcd"
    url = (overlay / "datastore.env").read_text().partition("=")[2].strip()
    wanted = one("DaemonSet" if name == "agent" else "Deployment", f"tortie-{name}", rendered(overlay))
    (container,) = wanted["spec"]["template"]["spec"]["containers"]
    del container["envFrom"]
    container["args"][1] = url
    found = documents(helm("datastore=" + url.replace(",", r"\,")))
    assert one(wanted["kind"], f"tortie-{name}", found) == wanted
    assert all(each in found for each in documents((overlay / "copier.yaml").read_text()))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cni.binDir=/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/data/cni"),
        ("pools[0].name=mine,pools[0].cidr=10.9.0.0/16", '{"cidr":"10.9.0.0/16"}'),
        ("agent.port=9999", ":9999"),
        ("strictAffinity=false", "strictAffinity: false"),
        ("image.repository=registry.example/tortie", "registry.example/tortie:"),
    ],
)
def test_a_value_is_where_it_belongs(setting: str, said: str) -> None:
    assert said not in helm()
    assert said in helm(*setting.split(","))


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("strictAffinity=2", "strictAffinity"),
        ("pool=10.0.0.0/8", "pool"),
        ("pools[0].cidr=10.0.0.0/8", "pools"),
        ("datastore=sqlite:///x", "datastore"),
    ],
)
def test_a_value_that_it_does_not_know_is_refused(setting: str, field: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm(setting)
    assert field in refused.value.stderr


def test_what_no_value_changes_is_the_very_file() -> None:
    for name in ("namespace", "rbac", "admission"):
        assert (CHART / "files" / f"{name}.yaml").resolve() == MANIFESTS / "base" / f"{name}.yaml"
    assert (CHART / "files" / "crds").resolve() == MANIFESTS / "crds"
    assert (CHART / "files" / "copier.yaml").resolve() == MANIFESTS / "overlays" / "etcd" / "copier.yaml"
