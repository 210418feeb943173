"""The custom resources' definitions: what they say is what the Structs say, and the API server holds people to it."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
import yaml

from datastore.errors import Invalid
from datastore.resources import clusterconfiguration, ippool
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.condition import Condition
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kinds import KINDS
from datastore.resources.networkpolicy import PROTOCOLS
from datastore.resources.node import Node
from datastore.resources.value import UNKNOWN, Metadata, Resource, Value
from tests.kube.apiserver import ADMIN_TOKEN, TORTIE_TOKEN
from tests.kube.cluster import CRDS, control_plane, kubectl
from tests.kube.programs import needs_kubernetes
from tests.kube.stores import empty

Schema = dict[str, Any]
Document = dict[str, Any]

OURS = {kind.KIND.plural: kind for kind in KINDS if kind.KIND.group == "tortie.dev"}
WRITTEN_BY_PEOPLE = (IPPool, IPReservation, ClusterConfiguration)
"""The API server tells them of a field that there isn't; what programs write keeps the fields of newer programs."""
MAX_BYTES = 60_000
"""An annotation holds what `kubectl apply` applied last, and may have 256 KiB altogether."""
CHOICES = {
    "IPPool.spec.ipipMode": ippool.ENCAPSULATIONS,
    "IPPool.spec.vxlanMode": ippool.ENCAPSULATIONS,
    "IPPool.spec.allowedUses[]": ippool.USES,
    "IPPool.spec.assignmentMode": ippool.ASSIGNMENT_MODES,
    "ClusterConfiguration.spec.migration.phase": clusterconfiguration.PHASES,
    "IPPool.status.conditions[].status": ("True", "False", "Unknown"),
    "WorkloadEndpoint.spec.ports[].protocol": PROTOCOLS,
}
SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def definition(plural: str) -> Schema:
    found: Schema = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    return found


def schema(plural: str) -> Schema:
    found: Schema = definition(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def properties(plural: str) -> Iterator[tuple[str, Schema]]:
    """Every schema of a definition below spec and status, with its path."""

    def below(path: str, part: Schema) -> Iterator[tuple[str, Schema]]:
        yield path, part
        for name, found in part.get("properties", {}).items():
            yield from below(f"{path}.{name}", found)
        if "items" in part:
            yield from below(f"{path}[]", part["items"])
        if "additionalProperties" in part:
            yield from below(f"{path}{{}}", part["additionalProperties"])

    for name, part in schema(plural)["properties"].items():
        if name not in ("apiVersion", "kind", "metadata"):
            yield from below(f"{OURS[plural].KIND.name}.{name}", part)


def fields(kind: type[Value]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind) if field.encode_name != UNKNOWN}


def compare(path: str, annotation: Any, part: Schema, keeps: bool) -> None:  # noqa: ANN401  # a type
    """The schema `part` says what the type says, all the way down."""
    if get_origin(annotation) is Union or (hasattr(annotation, "__or__") and type(None) in get_args(annotation)):
        (annotation,) = (argument for argument in get_args(annotation) if argument is not type(None))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Value):
        compare_struct(path, annotation, part, keeps)
    elif origin is tuple and arguments[1:] == (...,):
        assert part["type"] == "array", path
        compare(f"{path}[]", arguments[0], part["items"], keeps)
    elif origin is tuple:
        assert (part["type"], part["minItems"], part["maxItems"]) == ("array", len(arguments), len(arguments)), path
        assert part["items"]["type"] == "number", path
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        assert part["type"] == "object", path
        compare(f"{path}{{}}", arguments[1], part["additionalProperties"], keeps)
    else:
        assert part["type"] == SCALARS[annotation], path


def compare_struct(path: str, struct: type[Value], part: Schema, keeps: bool) -> None:
    named = fields(struct)
    assert set(part["properties"]) == set(named), path
    assert set(part.get("required", ())) == {name for name, field in named.items() if field.required}, path
    assert part.get("x-kubernetes-preserve-unknown-fields", False) == keeps, path
    for name, field in named.items():
        found = part["properties"][name]
        below = f"{path}.{name}"
        if "default" in found:
            assert found["default"] == default_of(field), below
        elif not keeps and path.split(".")[1] == "spec":
            assert field.required or field.default is None, f"{below} has no default"
        assert found.get("description"), f"{below} says nothing to kubectl explain"
        compare(below, field.type, found, keeps)


def default_of(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return msgspec.to_builtins(field.default) if not isinstance(field.default, tuple) else list(field.default)


def test_every_kind_of_ours_has_a_definition_and_the_kustomization_has_them_all() -> None:
    files = {path.stem for path in CRDS.glob("*.yaml")} - {"kustomization"}
    assert files == set(OURS)
    assert set(yaml.safe_load((CRDS / "kustomization.yaml").read_text())["resources"]) == {f"{f}.yaml" for f in files}


@pytest.mark.parametrize("plural", OURS)
def test_a_definition_is_called_as_its_kind(plural: str) -> None:
    kind, found = OURS[plural].KIND, definition(plural)
    names = found["spec"]["names"]
    assert found["metadata"]["name"] == kind.full_name
    assert (found["spec"]["group"], found["spec"]["versions"][0]["name"]) == (kind.group, kind.version)
    assert found["spec"]["scope"] == ("Namespaced" if kind.namespaced else "Cluster")
    assert (names["kind"], names["plural"], names["categories"]) == (kind.name, kind.plural, ["tortie"])
    # Kubernetes' own Node has that short name, and would lose it.
    assert tuple(names.get("shortNames", ())) == (() if OURS[plural] is Node else kind.short)


@pytest.mark.parametrize("plural", OURS)
def test_a_schema_has_every_field_of_its_struct_and_no_other(plural: str) -> None:
    kind = OURS[plural]
    keeps = kind not in WRITTEN_BY_PEOPLE
    whole = schema(plural)
    named = {name: field for name, field in fields(kind).items() if name != "metadata"}
    assert set(whole["properties"]) == {"apiVersion", "kind", "metadata", *named}
    assert set(whole.get("required", ())) == {name for name, field in named.items() if field.required}
    for name, field in named.items():
        compare(f"{kind.KIND.name}.{name}", field.type, whole["properties"][name], keeps)
    assert ("status" in named) == ("status" in definition(plural)["spec"]["versions"][0].get("subresources", {}))


def test_choices_are_those_that_check_allows() -> None:
    found = {path: tuple(part["enum"]) for plural in OURS for path, part in properties(plural) if "enum" in part}
    assert found == CHOICES


@pytest.mark.parametrize("plural", OURS)
def test_a_definition_is_small(plural: str) -> None:
    assert len((CRDS / f"{plural}.yaml").read_bytes()) < MAX_BYTES


@pytest.mark.parametrize("kind", WRITTEN_BY_PEOPLE)
def test_what_people_write_wrong_is_answered_with_what_to_write(kind: type[Resource]) -> None:
    whole = schema(kind.KIND.plural)
    parts = [whole, *(part for _, part in properties(kind.KIND.plural))]
    rules = [rule for part in parts for rule in part.get("x-kubernetes-validations", ())]
    assert rules
    for rule in rules:
        said = rule.get("message") or rule["messageExpression"]
        assert any(word in said for word in ("write", "choose", "set ", "make ", "name it")), said


@pytest.mark.parametrize("plural", OURS)
def test_a_status_has_conditions_and_says_of_which_spec_it_is(plural: str) -> None:
    status = schema(plural)["properties"].get("status")
    if status is not None:
        assert {"conditions", "observedGeneration"} <= set(status["properties"])
        conditions = status["properties"]["conditions"]
        assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
        assert set(conditions["items"]["properties"]) == set(fields(Condition))


# What the API server makes of them


def pool(**spec: object) -> Document:
    return {"kind": "IPPool", "metadata": {"name": "p"}, "spec": {"cidr": "10.65.0.0/16", **spec}}


def configuration(**spec: object) -> Document:
    return {"kind": "ClusterConfiguration", "metadata": {"name": "default"}, "spec": spec}


def reservation(*cidrs: str) -> Document:
    return {"kind": "IPReservation", "metadata": {"name": "r"}, "spec": {"reservedCIDRs": cidrs}}


def block(name: str = "10-65-0-64-26", **spec: object) -> Document:
    known = {"cidr": "10.65.0.64/26", "pool": "p", "cell": "10.65.0.0/20", "node": "n"}
    return {"kind": "IPBlock", "metadata": {"name": name}, "spec": {**known, **spec}}


def node(**spec: object) -> Document:
    return {"kind": "Node", "metadata": {"name": "n"}, "spec": {"machine": "m", **spec}}


def endpoint(**spec: object) -> Document:
    known = {"node": "n", "pod": "web", "containerID": "c", "network": "podnet", "interface": "eth0"}
    wanted = {**known, "hostInterface": "tort0", **spec}
    return {"kind": "WorkloadEndpoint", "metadata": {"name": "e", "namespace": "shop"}, "spec": wanted}


OWNER = {"handle": "podnet/c/eth0", "id": "0123456789abcdef", "node": "n"}

REFUSED: dict[str, tuple[Document, str]] = {
    "a pool without a cidr": ({"kind": "IPPool", "metadata": {"name": "p"}, "spec": {}}, "spec.cidr"),
    "a pool that is no CIDR": (pool(cidr="10.65.0.0"), "spec.cidr"),
    "a pool with host bits": (pool(cidr="10.65.0.5/16"), "spec.cidr"),
    "a pool of loopback": (pool(cidr="127.1.0.0/16"), "spec.cidr"),
    "a pool around link-local": (pool(cidr="169.0.0.0/8"), "spec.cidr"),
    "a pool of IPv6 multicast": (pool(cidr="ff02::/64"), "spec.cidr"),
    "a block size of another family": (pool(blockSize=122), "spec.blockSize"),
    "an IPv6 block size of another family": (pool(cidr="fd65::/64", blockSize=26), "spec.blockSize"),
    "blocks larger than their pool": (pool(cidr="10.65.0.0/28", blockSize=26), "spec.blockSize"),
    "default blocks larger than their pool": (pool(cidr="10.65.0.0/28"), "spec.blockSize"),
    "a mode there isn't": (pool(vxlanMode="Sometimes"), "spec.vxlanMode"),
    "an assignment mode there isn't": (pool(assignmentMode="Magic"), "spec.assignmentMode"),
    "two encapsulations": (pool(ipipMode="Always", vxlanMode="CrossSubnet"), "spec.ipipMode"),
    "IPIP for IPv6": (pool(cidr="fd65::/64", ipipMode="Always"), "spec.ipipMode"),
    "no use": (pool(allowedUses=[]), "spec.allowedUses"),
    "a use there isn't": (pool(allowedUses=["Fun"]), "spec.allowedUses[0]"),
    "LoadBalancer beside another use": (pool(allowedUses=["LoadBalancer", "Workload"]), "spec.allowedUses"),
    "a word for a flag": (pool(disabled="no"), "spec.disabled"),
    "a configuration that isn't the default": (
        {"kind": "ClusterConfiguration", "metadata": {"name": "mine"}},
        "metadata.name",
    ),
    "a negative cooldown": (configuration(cooldownSeconds=-1), "spec.cooldownSeconds"),
    "a cooldown of an hour": (configuration(cooldownSeconds=3600), "spec.cooldownSeconds"),
    "a negative number of blocks": (configuration(maxBlocksPerNode=-1), "spec.maxBlocksPerNode"),
    "no grace": (configuration(reclaimGraceSeconds=0), "spec.reclaimGraceSeconds"),
    "a migration to nowhere": (configuration(migration={"id": "x", "to": ""}), "spec.migration.to"),
    "a migration's phase there isn't": (
        configuration(migration={"id": "x", "to": "y", "phase": "Done"}),
        "spec.migration.phase",
    ),
    "a reservation of no address": (reservation("10.0.0.0/8", "ten"), "spec.reservedCIDRs[1]"),
    "a reservation with host bits": (reservation("10.0.0.1/8"), "spec.reservedCIDRs[0]"),
    "a block called otherwise": (block(name="mine"), "metadata.name"),
    "a block that is no CIDR": (block(name="ten", cidr="ten"), "spec.cidr"),
    "an unready block with owners": (block(allocations={"0": OWNER}, fresh=1), "spec.allocations"),
    "an owner without an id": (
        block(ready=True, fresh=1, allocations={"0": {"handle": "h", "node": "n"}}),
        "spec.allocations.0.id",
    ),
    "an owner with a short id": (block(ready=True, allocations={"0": {**OWNER, "id": "12"}}), "spec.allocations.0.id"),
    "more fresh ordinals than a block has": (block(fresh=5000), "spec.fresh"),
    "a freed ordinal without its time": (block(released=[[3]]), "spec.released[0]"),
    "a node without a machine": ({"kind": "Node", "metadata": {"name": "n"}, "spec": {}}, "spec.machine"),
    "a node's address that is none": (node(addresses=["10.0.0.1", "here"]), "spec.addresses[1]"),
    "a node's address with a zone": (node(addresses=["fe80::1%eth0"]), "spec.addresses[0]"),
    "a node's block that is none": (node(blocks=["10.0.0.0"]), "spec.blocks[0]"),
    "an endpoint's interface with a space": (endpoint(interface="eth 0"), "spec.interface"),
    "an endpoint's address that is none": (endpoint(addresses=["x"]), "spec.addresses[0]"),
    "a port that is none": (endpoint(ports=[{"name": "http", "port": 0}]), "spec.ports[0].port"),
    "a protocol there isn't": (endpoint(ports=[{"name": "a", "port": 1, "protocol": "X"}]), "spec.ports[0].protocol"),
}

TAKEN: dict[str, Document] = {
    "a pool": pool(),
    "an IPv6 pool with small blocks": pool(cidr="fd65::/48", blockSize=128, vxlanMode="Always"),
    "a pool of load balancers": pool(allowedUses=["LoadBalancer"]),
    "a configuration without a spec": {"kind": "ClusterConfiguration", "metadata": {"name": "default"}},
    "a reservation of an address and a CIDR": reservation("10.0.0.1", "fd00::/64"),
    "a block with an owner": block(ready=True, fresh=2, allocations={"0": OWNER}, released=[[1, 1700000000.5]]),
    "an IPv6 block": block("fd65-0-0-0-0-0-0-40-122", cidr="fd65::40/122", cell="fd65::/116"),
    "a node": node(addresses=["10.0.0.1", "fd00::1"], blocks=["10.65.0.64/26"]),
    "an endpoint": endpoint(addresses=["10.65.0.1"], ports=[{"name": "http", "port": 80}]),
}


def path_of(document: Document) -> str:
    kind = next(kind for kind in OURS.values() if kind.KIND.name == document["kind"]).KIND
    return f"/apis/{kind.api_version}/{'namespaces/shop/' if kind.namespaced else ''}{kind.plural}"


def sent(document: Document) -> tuple[int, Any]:
    whole = {"apiVersion": "tortie.dev/v1", **document}
    return control_plane().cached.ask("POST", path_of(document), whole, token=TORTIE_TOKEN)


@pytest.fixture
def emptied() -> None:
    empty(control_plane().cached)


def on_a_server(test: Callable[..., None]) -> Callable[..., None]:
    """A test that begins with none of our objects on a real API server."""
    return needs_kubernetes(pytest.mark.usefixtures("emptied")(test))  # type: ignore[no-any-return]


@on_a_server
@pytest.mark.parametrize(("document", "path"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_and_the_field_named(document: Document, path: str) -> None:
    code, status = sent(document)
    assert code == 422, status
    assert any(path in (cause["field"], *cause["message"].split()) for cause in status["details"]["causes"]), status


@on_a_server
@pytest.mark.parametrize("document", TAKEN.values(), ids=TAKEN)
def test_what_is_right_is_taken(document: Document) -> None:
    code, answer = sent(document)
    assert code == 201, answer


IMMUTABLE = {
    "a pool's cidr": (pool(), {"cidr": "10.66.0.0/16"}, "spec.cidr"),
    "a pool's block size": (pool(blockSize=26), {"blockSize": 27}, "spec.blockSize"),
    "a pool's block size that was the default": (pool(), {"blockSize": 27}, "spec.blockSize"),
    "a block's cidr": (block(), {"cidr": "10.65.0.128/26"}, "spec.cidr"),
}


@on_a_server
@pytest.mark.parametrize(("document", "change", "path"), IMMUTABLE.values(), ids=IMMUTABLE)
def test_what_cannot_be_changed_is_not(document: Document, change: dict[str, Any], path: str) -> None:
    code, made = sent(document)
    assert code == 201
    made["spec"].update(change)
    name = f"{path_of(document)}/{document['metadata']['name']}"
    code, status = control_plane().cached.ask("PUT", name, made, token=TORTIE_TOKEN)
    assert code == 422
    assert path in [cause["field"] for cause in status["details"]["causes"]]


@on_a_server
def test_saying_the_default_block_size_changes_nothing() -> None:
    _, made = sent(pool())
    made["spec"]["blockSize"] = 26
    assert control_plane().cached.ask("PUT", f"{path_of(pool())}/p", made, token=TORTIE_TOKEN)[0] == 200


@on_a_server
def test_defaults_are_filled_in() -> None:
    _, made = sent(pool())
    wanted = IPPool(metadata=Metadata(name="p"), spec=ippool.IPPoolSpec(cidr="10.65.0.0/16"))
    assert {name: made["spec"][name] for name in made["spec"] if name != "cidr"} == {
        name: default_of(field)
        for name, field in fields(type(wanted.spec)).items()
        if not field.required and field.default is not None
    }


@on_a_server
@pytest.mark.parametrize("name", ["IPPool", "IPReservation", "ClusterConfiguration"])
def test_a_misspelt_field_of_what_people_write_is_told(name: str, tmp_path: Path) -> None:
    good = {"IPPool": pool(), "IPReservation": reservation(), "ClusterConfiguration": configuration()}[name]
    spec = {**good["spec"], "blocksize": 26}
    (tmp_path / "bad.yaml").write_text(json.dumps({"apiVersion": "tortie.dev/v1", **good, "spec": spec}))
    config = control_plane().cached.kubeconfig(tmp_path / "kubeconfig", {"token": ADMIN_TOKEN})
    done = kubectl(config, "apply", "-f", tmp_path / "bad.yaml", check=False)
    assert done.returncode != 0
    assert 'unknown field "spec.blocksize"' in done.stderr


@on_a_server
def test_people_see_a_line_for_each_object(tmp_path: Path) -> None:
    for document in (pool(), block(ready=True, fresh=1, allocations={"0": OWNER}), node(addresses=["10.0.0.1"])):
        assert sent(document)[0] == 201
    config = control_plane().cached.kubeconfig(tmp_path / "kubeconfig", {"token": ADMIN_TOKEN})
    table = [line.split() for line in kubectl(config, "get", "ipp").stdout.splitlines()]
    assert table[0] == ["NAME", "CIDR", "READY", "USED", "FREE", "BLOCKS", "AGE"]
    assert table[1][:2] == ["p", "10.65.0.0/16"]
    everything = kubectl(config, "get", "tortie", "-A", "-o", "name").stdout.split()
    assert everything == ["ipblock.tortie.dev/10-65-0-64-26", "ippool.tortie.dev/p", "node.tortie.dev/n"]
    assert "All addresses of the pool" in kubectl(config, "explain", "ippool.spec.cidr").stdout


def test_of_every_kind_something_wrong_and_something_right_is_tried() -> None:
    for table in (TAKEN.values(), [document for document, _ in REFUSED.values()]):
        assert {document["kind"] for document in table} == {kind.KIND.name for kind in OURS.values()}


def test_what_check_refuses_is_refused_by_the_tables_too() -> None:
    """Each refused document that a Struct can hold fails `check()` as well: the two don't drift apart."""
    judged = []
    for name, (document, _) in REFUSED.items():
        kind: type[Resource] = next(kind for kind in OURS.values() if kind.KIND.name == document["kind"])
        fields_ = {key: value for key, value in document.items() if key != "kind"}
        try:
            held = msgspec.convert(fields_, kind)
        except msgspec.ValidationError:
            continue
        with pytest.raises(Invalid):
            held.check()
        judged.append(name)
    assert judged
