"""apply, delete and get: all or nothing judged first, one line for what is wrong, and kubectl's habits."""

import asyncio
import io
import json
from pathlib import Path

import pytest
import yaml

from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from datastore.urls import open_store
from tests.ctl.conftest import Ctl

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]
"""
POOL = """
apiVersion: tortie.dev/v1
kind: IPPool
metadata: {name: blue}
spec: {cidr: 10.65.0.0/16}
"""


GOOD = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}"


def write(tmp_path: Path, text: str, name: str = "file.yaml") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_objects_are_created_then_unchanged_then_configured(ctl: Ctl, tmp_path: Path) -> None:
    file = write(tmp_path, POLICY)
    assert ctl("apply", "-f", file).out == "networkpolicy.networking.k8s.io/db created\n"
    assert ctl("apply", "-f", file).out == "networkpolicy.networking.k8s.io/db unchanged\n"
    write(tmp_path, POLICY.replace("app: api", "app: web"))
    assert ctl("apply", "-f", file).out == "networkpolicy.networking.k8s.io/db configured\n"
    found = json.loads(ctl("get", "netpol", "db", "-n", "shop", "-o", "json").out)
    assert found["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == {"app": "web"}


def test_files_folders_lists_and_several_documents_are_read(ctl: Ctl, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder, POLICY + "---\n" + POLICY.replace("name: db", "name: db2") + "---\n", "a.yaml")
    listed = {"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(POLICY.replace("name: db", "name: db3"))]}
    write(folder, json.dumps(listed), "b.json")
    write(folder, "no manifest", "README.md")
    assert ctl("apply", "-f", str(folder)).status == 0
    assert ctl("get", "netpol", "-A", "-o", "name").out.split() == [
        f"networkpolicies/{n}" for n in ("db", "db2", "db3")
    ]


def test_objects_without_a_namespace_go_where_n_says(ctl: Ctl, tmp_path: Path) -> None:
    file = write(tmp_path, POLICY.replace(", namespace: shop", ""))
    ctl("apply", "-f", file)
    ctl("apply", "-f", file, "-n", "ops")
    items = json.loads(ctl("get", "netpol", "-A", "-o", "json").out)["items"]
    assert [item["metadata"]["namespace"] for item in items] == ["default", "ops"]


def test_what_is_deleted_is_gone_and_deleting_it_again_says_so(ctl: Ctl, tmp_path: Path) -> None:
    file = write(tmp_path, POLICY)
    ctl("apply", "-f", file)
    assert ctl("delete", "-f", file).out == "networkpolicy.networking.k8s.io/db deleted\n"
    again = ctl("delete", "-f", file)
    assert (again.status, "NetworkPolicy shop/db is not in the datastore" in again.err) == (1, True)
    ctl("apply", "-f", file)
    assert ctl("delete", "netpol", "db", "-n", "shop").status == 0


def test_fields_that_nobody_here_knows_are_kept(ctl: Ctl, tmp_path: Path) -> None:
    ctl("apply", "-f", write(tmp_path, POOL + "  \n".replace("  \n", "") + "status: {moods: [{type: Fine}]}\n"))
    assert "moods" in ctl("get", "ippool", "blue", "-o", "yaml").out


BAD = {
    "broken YAML": ("{a: [1, 2", ["line"]),
    "a key that stands twice": (POLICY.replace("ingress:", "podSelector: {}\n  ingress:"), ["podSelector", "twice"]),
    "no object": ("- 1\n", ["no object"]),
    "no kind": ("apiVersion: v1\nmetadata: {name: a}\n", ["kind", "missing"]),
    "an unknown kind": (
        POLICY.replace("kind: NetworkPolicy", "kind: NetworkPolice"),
        ["NetworkPolice", "NetworkPolicy"],
    ),
    "a kind of another group": (POLICY.replace("networking.k8s.io/v1", "extensions/v1beta1"), ["extensions/v1beta1"]),
    "no name": (POLICY.replace("name: db, ", ""), ["metadata.name"]),
    "a CIDR with host bits": (
        POOL.replace("10.65.0.0/16", "10.65.0.5/16"),
        ["IPPool blue", "spec.cidr", "10.65.0.0/16"],
    ),
    "a CIDR that is none": (POOL.replace("10.65.0.0/16", "10.65/16"), ["spec.cidr"]),
    "an ipBlock with host bits": (
        POLICY.replace("podSelector: {matchLabels: {app: api}}", "ipBlock: {cidr: 10.0.0.1/8}"),
        ["NetworkPolicy db", "spec.ingress[0].from[0].ipBlock.cidr", "host bits"],
    ),
    "an unknown selector operator": (
        POLICY.replace("matchLabels: {app: api}", "matchExpressions: [{key: a, operator: Near, values: [b]}]"),
        ["spec.ingress[0].from[0].podSelector.matchExpressions[0].operator", "Near"],
    ),
    "port 70000": (
        POLICY.replace("[{from:", "[{ports: [{port: 70000}], from:"),
        ["spec.ingress[0].ports[0].port", "70000"],
    ),
    "an endPort below its port": (
        POLICY.replace("[{from:", "[{ports: [{port: 80, endPort: 79}], from:"),
        ["spec.ingress[0].ports[0].endPort"],
    ),
    "a value that is no label": (POLICY.replace("app: db", "app: 'a b'"), ["spec.podSelector.matchLabels[app]"]),
    "a label that is a number": (POLICY.replace("app: db", "app: 5"), ["spec.podSelector.matchLabels"]),
    "a name with a slash": (POLICY.replace("name: db", "name: a/b"), ["metadata.name"]),
    "a name of 300 characters": (POLICY.replace("name: db", "name: " + "a" * 300), ["metadata.name"]),
    "a policy field that doesn't exist": (
        POLICY.replace("podSelector: {matchLabels: {app: db}}", "podSelectr: {}"),
        ["spec.podSelectr"],
    ),
    "a template": (POLICY.replace("name: db", "name: {{ .Values.name }}"), ["line 4", "key"]),
    "a key that is a list": ("? [a]\n: b\n", ["line 1", "key"]),
    "a number that is none": (POLICY.replace("name: db", "name: !!int x"), ["no YAML"]),
    "nested without end": ("[" * 20000, ["no YAML"]),
    "too large": (POOL.replace("{name: blue}", "{name: blue, annotations: {a: " + "x" * 1200000 + "}}"), ["1048576"]),
    "a pool's field that doesn't exist": (POOL.replace("}\n", ", blockSiz: 28}\n", 2), ["spec.blockSiz", "an IPPool"]),
    "a pool of loopback addresses": (POOL.replace("10.65.0.0", "127.0.0.0"), ["spec.cidr", "no pod can have"]),
    "a pool of mapped addresses": (
        POOL.replace("10.65.0.0/16", '"::ffff:10.0.0.0/112"'),
        ["spec.cidr", "no pod can have"],
    ),
    "an object twice": (POOL + "---" + POOL, ["IPPool blue", "twice"]),
    "nothing": ("---\n", ["no object"]),
    "a pod": ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", ["Pod default/a", "tortiectl lab run"]),
}


@pytest.mark.parametrize(("text", "said"), [pytest.param(*what, id=name) for name, what in BAD.items()])
def test_bad_input_is_one_line_that_names_file_object_and_field_and_changes_nothing(
    ctl: Ctl, tmp_path: Path, text: str, said: list[str]
) -> None:
    good, bad = write(tmp_path, GOOD, "good.yaml"), write(tmp_path, text, "bad.yaml")
    refused = ctl("apply", "-f", bad) if text == "---\n" else ctl("apply", "-f", good, "-f", bad)
    assert refused.status == 2
    assert (refused.out, refused.err.count("\n")) == ("", 1)
    assert all(words in refused.err for words in ["bad.yaml", *said]), refused.err
    assert json.loads(ctl("get", "namespaces", "-o", "json").out)["items"] == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["apply", "-f", "/nonexistent.yaml"], 2, id="a file that isn't there"),
        pytest.param(["apply"], 2, id="no file"),
        pytest.param(["get", "nosuchkind"], 2, id="an unknown kind"),
        pytest.param(["get", "netpol", "-n", "Bad/ns"], 2, id="a namespace that none can be called"),
        pytest.param(["delete", "netpol"], 2, id="a kind without a name"),
        pytest.param(["get", "netpol", "--datastore", "mysql://x"], 2, id="a datastore without a driver"),
        pytest.param(["get", "netpol", "--datastore", "sqlite:///proc/x/y.db"], 3, id="a datastore that can't open"),
        pytest.param(["nosuch"], 2, id="an unknown command"),
        pytest.param(["lab", "probe", "web", "shop/db", "80"], 2, id="a pod without a namespace"),
        pytest.param(["lab", "status", "--state", "/nonexistent"], 3, id="no lab"),
    ],
)
def test_exit_statuses_say_what_kind_of_wrong(ctl: Ctl, arguments: list[str], status: int) -> None:
    said = ctl(*arguments)
    assert said.status == status
    assert said.err.count("\n") == 1
    assert said.err.startswith("tortiectl: ")


def test_a_date_is_a_name_like_any_other(ctl: Ctl, tmp_path: Path) -> None:
    assert ctl("apply", "-f", write(tmp_path, POLICY.replace("name: db", "name: 2020-12-05"))).status == 0
    assert ctl("get", "netpol", "2020-12-05", "-n", "shop").status == 0


def test_what_is_no_text_is_refused_from_standard_input_too(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "bytes").open("wb+") as file:
        file.write(b"\xff\xfe\x00")
        file.seek(0)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        refused = ctl("apply", "-f", "-")
    assert (refused.status, "is no text" in refused.err) == (2, True)


@pytest.mark.parametrize("kind", ["ipblock", "nodes.tortie.dev", "workloadendpoints", "pods"])
def test_what_programs_write_is_not_deleted_by_hand_unless_forced(ctl: Ctl, tmp_path: Path, kind: str) -> None:
    ctl("apply", "-f", write(tmp_path, POOL))
    refused = ctl("delete", kind, "a")
    assert (refused.status, "--force" in refused.err) == (2, True)
    assert ctl("delete", kind, "a", "--force").status == 1, "looked for, and not there"


@pytest.mark.parametrize("arguments", [("get", "pods"), ("policy", "explain", "a/b", "a/c", "--port", "80")])
def test_looking_at_a_datastore_that_is_not_there_makes_none(ctl: Ctl, tmp_path: Path, arguments: list[str]) -> None:
    said = ctl(*arguments, "--datastore", f"sqlite://{tmp_path}/nosuch/a.db")
    assert (said.status, "nosuch" in said.err) == (3, True)
    assert not (tmp_path / "nosuch").exists()
    assert "no datastore at" in ctl(*arguments).err
    assert not (tmp_path / "store.db").exists()


def test_a_datastore_that_cannot_be_looked_for_is_said_so(ctl: Ctl) -> None:
    said = ctl("get", "pods", "--datastore", f"sqlite:///tmp/{'x' * 300}/a.db")
    assert (said.status, said.err.count("\n")) == (3, 1)


def test_memory_is_no_cluster(ctl: Ctl) -> None:
    assert ctl("get", "pods", "--datastore", "memory:").status == 2


def test_a_pool_with_a_nodes_address_is_refused(ctl: Ctl, tmp_path: Path) -> None:
    async def node() -> None:
        store = await open_store(f"sqlite://{tmp_path}/store.db")
        spec = NodeSpec(machine="m", addresses=("172.30.0.1",), blocks=(), borrowed=())
        await store.create(Node(metadata=Metadata(name="node-1"), spec=spec))
        await store.close()

    asyncio.run(node())
    refused = ctl("apply", "-f", write(tmp_path, POOL.replace("10.65.0.0/16", "172.30.0.0/24")))
    assert (refused.status, "172.30.0.1, an address of node node-1" in refused.err) == (2, True)


def test_pools_that_overlap_are_refused_whoever_has_them(ctl: Ctl, tmp_path: Path) -> None:
    other = POOL.replace("blue", "green").replace("10.65.0.0/16", "10.65.128.0/17")
    both = ctl("apply", "-f", write(tmp_path, POOL + "---" + other))
    assert (both.status, "overlaps" in both.err) == (2, True)
    assert ctl("apply", "-f", write(tmp_path, POOL)).status == 0
    later = ctl("apply", "-f", write(tmp_path, other))
    assert (later.status, "IPPool green" in later.err, "IPPool blue" in later.err) == (2, True, True)


def test_an_object_that_is_not_there_is_said_so(ctl: Ctl, tmp_path: Path) -> None:
    ctl("apply", "-f", write(tmp_path, POOL))
    said = ctl("get", "netpol", "nosuch")
    assert (said.status, said.err.count("\n")) == (1, 1)


def test_core_nodes_and_ours_are_told_apart_by_group(ctl: Ctl) -> None:
    assert ctl("get", "nodes.tortie.dev").status == 0
    assert ctl("get", "networkpolicies.networking.k8s.io").status == 0
    assert ctl("get", "networkpolicies.example.com").status == 2
