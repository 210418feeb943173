"""The Helm chart says what manifests/base says: its templates are those files with values in a few places.

helm renders it, and refuses values that it can't be given. Without helm the few constructs that the templates use are
filled in here: a value, its quoted form, a default, a value as YAML.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube.installed import MANIFESTS
from tests.kube.programs import HELM, KUBERNETES, needs_helm, needs_kubernetes
from tests.kube.test_manifests import BASE, documents, one, rendered

CHART = MANIFESTS / "chart"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
ABOUT = yaml.safe_load((CHART / "Chart.yaml").read_text())
_ACTION = re.compile(r"\{\{-? *(?P<what>[^{}]*?) *\}\}")
_IF = re.compile(
    r' *\{\{- if hasPrefix "(?P<prefix>\w+)" (?P<path>[.\w]+) \}\}\n(?P<inside>.*?) *\{\{- end \}\}\n', re.DOTALL
)
_KEEP = {"helm.sh/resource-policy": "keep"}


def value(path: str, values: dict[str, Any] = VALUES) -> Any:  # noqa: ANN401  # whatever YAML has
    """What .Values.x.y or .Chart.AppVersion stands for."""
    if path == ".Chart.AppVersion":
        return ABOUT["appVersion"]
    found = {"Values": values}
    for part in path.strip(".").split("."):
        found = found[part]
    return found


def filled(template: str, datastore: str = "") -> str:
    """A template with the values of values.yaml, perhaps another datastore; what it doesn't know it refuses."""
    values = VALUES | ({"datastore": datastore} if datastore else {})

    def fill(match: re.Match[str]) -> str:
        path, *pipes = (part.strip() for part in match["what"].split("|"))
        found = value(path, values)
        for pipe in pipes:
            word, *rest = pipe.split()
            match word:
                case "default":
                    found = found or value(rest[0])
                case "quote" | "toYaml":
                    found = json.dumps(found)
                case "nindent":
                    found = f" {found}"
                case _:
                    raise AssertionError(f"{pipe} is unknown here")
        return str(found)

    chosen = _IF.sub(
        lambda match: match["inside"] if value(match["path"], values).startswith(match["prefix"]) else "", template
    )
    return _ACTION.sub(fill, chosen)


@pytest.mark.parametrize("name", ["agent", "controller"])
def test_a_program_is_rendered_as_the_base_has_it(name: str) -> None:
    found = documents(filled((CHART / "templates" / f"{name}.yaml").read_text()))
    assert found == documents((BASE / f"{name}.yaml").read_text())


@needs_kubernetes
@pytest.mark.parametrize("name", ["agent", "controller"])
def test_with_an_etcd_a_program_is_rendered_as_the_overlay_has_it(name: str) -> None:
    overlay = MANIFESTS / "overlays" / "etcd"
    url = (overlay / "datastore.env").read_text().partition("=")[2].strip()
    (found,) = documents(filled((CHART / "templates" / f"{name}.yaml").read_text(), url))
    wanted = one(found["kind"], f"tortie-{name}", rendered(overlay))
    (container,) = wanted["spec"]["template"]["spec"]["containers"]
    del container["envFrom"]
    container["args"][1] = url
    assert found == wanted
    assert (CHART / "files" / "copier.yaml").resolve() == overlay / "copier.yaml"


def test_what_has_no_values_is_the_very_file() -> None:
    template = (CHART / "templates" / "objects.yaml").read_text()
    for name in ("namespace", "rbac", "admission"):
        assert f'.Files.Get "files/{name}.yaml"' in template
        assert (CHART / "files" / f"{name}.yaml").resolve() == BASE / f"{name}.yaml"
    assert '.Files.Glob "files/crds/*.yaml"' in template
    assert (CHART / "files" / "crds").resolve() == MANIFESTS / "crds"
    assert (CHART / "files" / "10-tortie.conflist").resolve() == BASE / "10-tortie.conflist"
    for path in set((MANIFESTS / "crds").glob("*.yaml")) - {MANIFESTS / "crds" / "kustomization.yaml"}:
        assert path.read_text().count("\nmetadata:\n") == 1, "an annotation goes there, by which Helm keeps it"


def test_a_new_cluster_begins_with_the_same() -> None:
    configuration, pool = {}, {}
    for document in documents((BASE / "defaults.yaml").read_text()):
        if document["kind"] == "IPPool":
            pool = {"name": document["metadata"]["name"], **document["spec"]}
        else:
            configuration = document["spec"]
    assert VALUES["pools"] == [pool]
    assert configuration == {"strictAffinity": VALUES["strictAffinity"]}


def judge(schema: dict[str, Any], found: object, whole: dict[str, Any]) -> None:
    """As much of JSON Schema as values.schema.json uses, in one direction: what the values have, the schema knows."""
    if "$ref" in schema:
        schema = whole["definitions"][schema["$ref"].rpartition("/")[2]]
    if isinstance(found, dict):
        assert set(schema.get("required", ())) <= set(found)
        if schema.get("additionalProperties") is False:
            assert set(found) <= set(schema["properties"])
        for name, part in schema.get("properties", {}).items():
            if name in found:
                judge(part, found[name], whole)
    elif isinstance(found, list):
        for each in found:
            judge(schema["items"], each, whole)
    elif "pattern" in schema:
        assert re.search(schema["pattern"], str(found))
    elif "enum" in schema:
        assert found in schema["enum"]
    elif "type" in schema:
        assert type(found) is {"boolean": bool, "integer": int, "string": str}[schema["type"]]


def test_the_schema_knows_every_value_and_takes_the_defaults() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    judge(schema, VALUES, schema)
    with pytest.raises(AssertionError):
        judge(schema, {**VALUES, "pool": []}, schema)
    with pytest.raises(AssertionError):
        judge(schema, {**VALUES, "strictAffinity": "yes"}, schema)


@needs_helm
def test_helm_renders_the_same_objects() -> None:
    found = documents(helm())
    assert sorted(map(comparable, found)) == sorted(map(comparable, rendered(MANIFESTS)))


@needs_helm
@pytest.mark.parametrize(
    ("setting", "field"),
    [("strictAffinity=2", "strictAffinity"), ("pool=10.0.0.0/8", "pool"), ("pools[0].cidr=10.0.0.0/8", "pools")],
)
def test_helm_refuses_a_value_that_it_does_not_know(setting: str, field: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm("--set", setting)
    assert field in refused.value.stderr


def helm(*more: str) -> str:
    version = KUBERNETES.name.removeprefix("kubernetes-")
    command = (str(HELM), "template", "tortie", str(CHART), "--kube-version", version, *more)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def comparable(document: dict[str, Any]) -> str:
    """An object as text, without what the chart adds, and defaults as what they say."""
    annotations = document["metadata"].get("annotations", {})
    if annotations == _KEEP:
        del document["metadata"]["annotations"]
    if document["metadata"]["name"] == "tortie-defaults":
        document["data"] = list(yaml.safe_load_all(document["data"]["defaults.yaml"]))
        document["data"].sort(key=lambda each: str(each["kind"]))
    if document["metadata"]["name"] == "tortie-conflist":
        document["data"] = json.loads(document["data"]["10-tortie.conflist"])
    return json.dumps(document, sort_keys=True)


def test_every_template_is_looked_at() -> None:
    looked_at = {"agent.yaml", "controller.yaml", "objects.yaml", "config.yaml"}
    assert {path.name for path in Path(CHART / "templates").iterdir()} == looked_at
