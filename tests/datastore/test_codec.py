"""Documents to resources and back: paths that a person can follow, and fields that nobody here has a name for."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from datastore import codec
from datastore.errors import Invalid
from datastore.resources.ipblock import IPBlock
from datastore.resources.kinds import KINDS
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import UNKNOWN, Metadata, Resource, UnknownFields
from tests.datastore.samples import Document, ip_block, policy, policy_document


def at(document: Document, path: str, value: object) -> Document:
    """The document with `value` at a path of names and indices, such as spec/ingress/0."""
    found: Any = document
    *steps, last = path.split("/")
    for step in steps:
        found = found[int(step)] if isinstance(found, list) else found.setdefault(step, {})
    found[int(last) if isinstance(found, list) else last] = value
    return document


def test_a_document_becomes_the_resource_of_its_kind() -> None:
    resource = codec.decode(policy_document())
    assert isinstance(resource, NetworkPolicy)
    rule = resource.spec.ingress[0]
    assert [port.port for port in rule.ports] == [5432, "dns"]
    assert rule.from_[0].pod_selector is not None
    assert rule.from_[0].pod_selector.match_expressions[0].values == ("web",)


def test_stored_bytes_describe_themselves_and_carry_no_revision() -> None:
    body = codec.encode(codec.stamped(policy(), "7-a"))
    assert json.loads(body) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"policyTypes": ["Ingress"]},
    }
    assert codec.decode_as(NetworkPolicy, body, "9-a").revision == "9-a"


def test_people_see_the_revision() -> None:
    document = codec.document(codec.stamped(policy(), "7-a"))
    assert list(document)[:2] == ["apiVersion", "kind"]
    assert document["metadata"] == {"name": "db", "namespace": "shop", "resourceVersion": "7-a"}
    assert codec.decode(document).revision == "7-a"


@pytest.mark.parametrize(
    ("path", "value", "blamed"),
    [
        pytest.param("spec/ingress/0/ports/0/port", [80], "spec.ingress[0].ports[0].port", id="a port that is a list"),
        pytest.param("spec/ingress/0/ports/1", "dns", "spec.ingress[0].ports[1]", id="a port that is no object"),
        pytest.param("spec/ingress/0/from", {}, "spec.ingress[0].from", id="an object for a list"),
        pytest.param("spec/ingress/0/from/0", None, "spec.ingress[0].from[0]", id="a null in a list"),
        pytest.param("spec/podSelector/matchLabels", {"a": "b", "app": 7}, "spec.podSelector.matchLabels[app]", id="7"),
        pytest.param("spec/podSelector/matchLabels", {7: "a"}, "spec.podSelector.matchLabels", id="a key of 7"),
        pytest.param("spec/ingress/0/from/0/ipBlock", {}, "spec.ingress[0].from[0].ipBlock.cidr", id="no cidr"),
        pytest.param("spec", [], "spec", id="a spec that is a list"),
        pytest.param("metadata/labels", {"a": True}, "metadata.labels[a]", id="a label that YAML read as a boolean"),
        pytest.param("metadata", None, "metadata", id="metadata is null"),
        pytest.param("kind", "NetworkPolice", "kind", id="a misspelt kind"),
        pytest.param("kind", None, "kind", id="no kind"),
        pytest.param("apiVersion", "extensions/v1beta1", "apiVersion", id="an old apiVersion"),
        pytest.param("apiVersion", 1, "apiVersion", id="an apiVersion that is a number"),
        pytest.param("spec/x/y", [{"z": [1, None]}], "spec.x.y[0].z[1]", id="a null in a list that nobody knows"),
        pytest.param(f"spec/{UNKNOWN}", {"a": 1}, "spec", id="the codec's own key"),
        pytest.param(f"spec/x/{UNKNOWN}", {}, "spec.x", id="the codec's own key where nobody looks"),
    ],
)
def test_a_wrong_field_is_named_as_a_person_writes_it(path: str, value: object, blamed: str) -> None:
    with pytest.raises(Invalid) as caught:
        codec.decode(at(policy_document(), path, value))
    assert caught.value.path == blamed
    assert "`" not in caught.value.reason


def test_the_entry_of_a_mapping_that_is_wrong_is_named_by_its_key() -> None:
    document = codec.document(ip_block(borrowers=("node-1", "node-2", "node-3")))
    at(document, "spec/allocations/1/id", 5)
    with pytest.raises(Invalid) as caught:
        codec.decode(document)
    assert caught.value.path == "spec.allocations[1].id"


@pytest.mark.parametrize(
    ("api_version", "kind", "hint"),
    [
        pytest.param("tortie.dev/v1", "IPPol", "IPPool", id="near match"),
        pytest.param("projectcalico.org/v3", "IPPool", "tortie.dev/v1", id="Calico's group"),
        pytest.param("v1", "Secret", "NetworkPolicy", id="the list of kinds"),
    ],
)
def test_a_kind_that_is_not_here_is_refused_with_a_hint(api_version: str, kind: str, hint: str) -> None:
    with pytest.raises(Invalid, match=hint):
        codec.decode({"apiVersion": api_version, "kind": kind, "metadata": {}})


@pytest.mark.parametrize("document", [None, [], "kind: Pod", 7, {}])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(Invalid):
        codec.decode(document)


def test_a_document_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(Invalid, match="deep"):
        codec.decode(at(policy_document(), "spec/x", loop))


def test_a_null_field_is_an_absent_one() -> None:
    document = at(policy_document(), "metadata/creationTimestamp", None)
    at(document, "spec/egress", None)
    at(document, "spec/x", {"y": None})
    resource = codec.decode(document)
    assert resource.metadata.unknown == UnknownFields({})
    assert codec.unknown_paths(resource) == ("spec.x",)
    assert codec.document(resource)["spec"]["x"] == {}


NEWER = [
    pytest.param("status", id="beside spec"),
    pytest.param("metadata/managedFields", id="in metadata"),
    pytest.param("spec/order", id="in the spec"),
    pytest.param("spec/ingress/0/log", id="in an item of a list"),
    pytest.param("spec/ingress/0/from/0/podSelector/matchExpressions/0/fold", id="five levels down"),
]


@pytest.mark.parametrize("path", NEWER)
def test_an_unknown_field_is_kept_where_it_stood(path: str) -> None:
    document = at(policy_document(), path, {"new": [1, {"deep": True}]})
    resource = codec.decode(document)
    (kept,) = codec.unknown_paths(resource)
    assert kept.replace("[", ".").replace("]", "").split(".") == path.split("/")
    assert codec.decode_as(NetworkPolicy, codec.encode(resource), "") == resource
    assert at(codec.document(resource), path, None) == at(codec.document(codec.decode(policy_document())), path, None)


def test_an_old_programs_rewrite_keeps_a_new_programs_fields() -> None:
    newer = codec.document(ip_block(borrowers=("node-1", "node-2")))
    at(newer, "spec/affinity", {"zone": "a"})
    at(newer, "spec/allocations/0/color", "red")
    at(newer, "spec/allocations/1/color", "blue")
    older = codec.decode_as(IPBlock, json.dumps(newer).encode(), "3-a")

    kept = {"1": older.spec.allocations["1"]}
    spec = msgspec.structs.replace(older.spec, allocations=kept, released=((0, 5.0),))
    rewritten = json.loads(codec.encode(msgspec.structs.replace(older, spec=spec)))

    assert rewritten["spec"]["affinity"] == {"zone": "a"}
    assert {key: value["color"] for key, value in rewritten["spec"]["allocations"].items()} == {"1": "blue"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"\xff"}}', id="a name that is no UTF-8"),
        pytest.param(b"[" * 100_000, id="100,000 lists"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"metadata":{}}', id="no kind"),
        pytest.param(b'{"apiVersion":"v1","kind":"Node","metadata":{}}', id="another kind"),
        pytest.param(b'{"apiVersion":"v1","kind":"Pad","metadata":{}}', id="another kind with as long a name"),
        pytest.param(
            b'{"apiVersion":"v1","kind":"Pod","metadata":{"-unknown-":{"name":"x"}}}', id="the codec's own key"
        ),
        pytest.param(b'{"apiVersion":"v1","kind":"Pod","metadata":{"\\u002dunknown-":{}}}', id="the same, escaped"),
    ],
)
def test_bytes_that_are_no_such_object_are_refused(body: bytes) -> None:
    pod = next(kind for kind in KINDS if kind.__name__ == "Pod")
    with pytest.raises(Invalid):
        codec.decode_as(pod, body, "1-a")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        pytest.param({"a": "\ud800"}, "JSON", id="half a character"),
        pytest.param({"a": "x" * (1 << 20)}, "bytes long", id="a megabyte"),
    ],
)
def test_what_no_store_could_keep_is_refused(labels: dict[str, str], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        codec.encode(policy(**labels))


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(lambda key: key != UNKNOWN), inner, max_size=3)
    ),
    max_leaves=4,
)
SCALARS: dict[type, st.SearchStrategy[Any]] = {
    inspect.StrType: TEXT,
    inspect.IntType: st.integers(-(2**53), 2**53),
    inspect.BoolType: st.booleans(),
    inspect.FloatType: st.floats(allow_nan=False, allow_infinity=False),
    inspect.NoneType: st.none(),
}


def of_type(info: inspect.Type) -> st.SearchStrategy[Any]:
    """Any value of a type; whether it passes `check()` is another matter."""
    match info:
        case inspect.StructType():
            return of_struct(info)
        case inspect.VarTupleType():
            return st.lists(of_type(info.item_type), max_size=2).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(of_type, info.item_types))
        case inspect.DictType():
            return st.dictionaries(TEXT.filter(lambda key: key != UNKNOWN), of_type(info.value_type), max_size=2)
        case inspect.UnionType():
            return st.one_of(*map(of_type, info.types))
        case _:
            return SCALARS[type(info)]


def of_struct(info: inspect.StructType) -> st.SearchStrategy[Any]:
    known = {field.encode_name for field in info.fields} | {"apiVersion", "kind"}
    names = TEXT.filter(lambda name: name not in known)
    fields = {field.name: of_type(field.type) for field in info.fields if field.name != "unknown"}
    unknown = st.dictionaries(names, JSON, max_size=2).map(UnknownFields)
    return st.builds(info.cls, unknown=st.just(UnknownFields({})) | unknown, **fields)


RESOURCES = st.sampled_from(KINDS).flatmap(lambda kind: of_type(inspect.type_info(kind)))


@settings(deadline=None)
@given(resource=RESOURCES)
def test_decoding_undoes_encoding(resource: Resource) -> None:
    kept = codec.stamped(resource, resource.revision)
    assert codec.decode_as(type(resource), codec.encode(resource), resource.revision) == kept
    assert codec.decode(codec.document(resource)) == resource
    assert codec.decode(json.loads(json.dumps(codec.document(resource)))) == resource


def test_values_without_unknown_fields_share_one_empty_mapping() -> None:
    block = codec.decode_as(IPBlock, codec.encode(ip_block(borrowers=("node-1", "node-1"))), "")
    assert block.spec.allocations["0"].unknown is block.metadata.unknown is Metadata().unknown
