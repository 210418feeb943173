"""What the store and the local records say becomes policy and routes, whatever the order in which it was told."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.endpoints import endpoint_key, endpoint_name
from agent.graph import Graph
from cni.records import HeldAddress, Port, Record
from datastore import codec
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ippool import IPPool
from datastore.resources.kubernetes import Namespace, Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone
from policy.compiler import Compiler
from policy.model import EndpointId


def resource(text: Mapping[str, Any], revision: str = "1") -> Resource:
    metadata = {**text["metadata"], "resourceVersion": revision}
    return codec.decode({**text, "metadata": metadata})


def namespace(name: str, **labels: str) -> Resource:
    return resource({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def netpol(name: str, app: str = "db", peer: str = "api") -> Resource:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": peer}}}]}
    return resource(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "ingress": [rule]},
        }
    )


def endpoint(name: str, address: str, app: str, node: str = "node-2") -> Resource:
    spec = {
        "node": node,
        "pod": name,
        "containerID": "c",
        "network": "n",
        "interface": "eth0",
        "hostInterface": "tortx",
    }
    return resource(
        {
            "apiVersion": "tortie.dev/v1",
            "kind": "WorkloadEndpoint",
            "metadata": {"name": f"{name}-1", "namespace": "shop", "labels": {"app": app}},
            "spec": {**spec, "hostInterface": "tortx", "addresses": [address]},
        }
    )


def node(name: str, address: str) -> Resource:
    spec = {"machine": "m", "addresses": [address]}
    return resource({"apiVersion": "tortie.dev/v1", "kind": "Node", "metadata": {"name": name}, "spec": spec})


def record(name: str = "db", address: str = "10.65.0.1", app: str = "db") -> Record:
    return Record(
        network="n",
        container_id=f"c-{name}",
        interface="eth0",
        host_interface=f"tort-{name}",
        namespace="shop",
        pod=name,
        labels={"app": app},
        ports=(Port("postgres", 5432, "TCP"),),
        held=(HeldAddress("b", 1, "00000000000000aa", address),),
        complete=True,
    )


def graph() -> Graph:
    return Graph("node-1", Compiler("node-1"))


def told(one: Graph) -> object:
    """Everything that follows from what a graph was told."""
    desired = one.compiler.desired
    sets = {name: frozenset(found.members) for name, found in desired.sets.items()}
    return sets, {key: (dict(table.chains), dict(table.hooks)) for key, table in desired.tables.items()}


def test_a_listing_says_what_is_gone() -> None:
    one, fresh = graph(), graph()
    one.on_listed(NetworkPolicy, [netpol("a"), netpol("b", "web")])
    one.set_local(record())
    one.on_listed(NetworkPolicy, [netpol("b", "web")])
    fresh.set_local(record())
    fresh.on_listed(NetworkPolicy, [netpol("b", "web")])
    assert told(one) == told(fresh)
    assert one.seen(NetworkPolicy, "shop", "a") == ""
    assert one.seen(NetworkPolicy, "shop", "b") == "1"


def test_endpoints_of_this_node_are_believed_from_records_alone() -> None:
    one, fresh = graph(), graph()
    one.on_listed(WorkloadEndpoint, [endpoint("ghost", "10.65.0.9", "db", node="node-1")])
    assert told(one) == told(fresh)


def test_a_published_local_pod_that_goes_from_the_store_stays_local() -> None:
    one, fresh = graph(), graph()
    for each in (one, fresh):
        each.set_local(record())
    name = endpoint_name(record())
    one.on_changed(WorkloadEndpoint, [Gone("shop", name)])
    assert told(one) == told(fresh)


def test_a_local_pod_that_is_gone_leaves_nothing() -> None:
    one = graph()
    before = told(one)
    one.set_local(record())
    one.remove_local(record())
    assert told(one) == before
    assert one.local == {}


def test_pools_nodes_and_configuration_are_kept() -> None:
    one = graph()
    pool = {
        "apiVersion": "tortie.dev/v1",
        "kind": "IPPool",
        "metadata": {"name": "p"},
        "spec": {"cidr": "10.65.0.0/16"},
    }
    strict = {
        "apiVersion": "tortie.dev/v1",
        "kind": "ClusterConfiguration",
        "metadata": {"name": "default"},
        "spec": {"strictAffinity": True},
    }
    one.on_listed(IPPool, [resource(pool)])
    one.on_listed(Node, [node("node-2", "172.30.0.2")])
    one.on_listed(ClusterConfiguration, [resource(strict)])
    assert (list(one.pools), list(one.nodes), one.configuration.strict_affinity) == (["p"], ["node-2"], True)
    one.on_listed(IPPool, [])
    one.on_changed(Node, [Gone("", "node-2")])
    one.on_changed(ClusterConfiguration, [Gone("", "default")])
    assert (list(one.pools), list(one.nodes), one.configuration.strict_affinity) == ([], [], False)


def test_what_cannot_be_understood_is_named_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    broken = node("node-9", "no address")
    one = graph()
    with caplog.at_level(logging.WARNING):
        one.on_changed(Node, [broken, node("node-2", "172.30.0.2")])
    assert "Node node-9" in caplog.text
    assert "node-2" in one.nodes


def test_listeners_hear_of_the_store_and_not_of_local_pods() -> None:
    one, heard = graph(), []
    one.on_change = lambda: heard.append(1)
    one.set_local(record())
    one.remove_local(record())
    assert heard == []
    one.on_listed(Namespace, [])
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param("web", "web-", id="a DNS name"),
        pytest.param("My_Container", "my-container-", id="a podman name"),
        pytest.param("x" * 253, "x" * 200 + "-", id="a long name"),
        pytest.param("___", "pod-", id="nothing usable"),
        pytest.param("a..b.-c", "a-b-c-", id="empty labels"),
    ],
)
def test_an_endpoints_name_is_a_dns_name_with_a_hash_of_the_attachment(pod: str, expected: str) -> None:
    name = endpoint_name(record(pod))
    assert name.startswith(expected)
    assert len(name) == len(expected) + 10
    assert endpoint_key(record(pod)) != endpoint_key(record(pod + "2"))


def a_pod(
    name: str,
    node: str,
    app: str,
    *addresses: str,
    uid: str = "u1",
    phase: str = "Running",
    metadata: Mapping[str, object] | None = None,
) -> Resource:
    known = {"name": name, "namespace": "shop", "labels": {"app": app}, "uid": uid, **(metadata or {})}
    spec = {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "pg", "containerPort": 5433}]}]}
    status = {"podIPs": [{"ip": one} for one in addresses], "phase": phase}
    return resource({"apiVersion": "v1", "kind": "Pod", "metadata": known, "spec": spec, "status": status})


def a_pool(*, nat: bool) -> Resource:
    spec = {"cidr": "10.65.0.0/16", "natOutgoing": nat}
    return resource({"apiVersion": "tortie.dev/v1", "kind": "IPPool", "metadata": {"name": "v4"}, "spec": spec})


def test_a_local_pod_follows_its_pods_labels_and_ports() -> None:
    one, fresh = graph(), graph()
    for each in (one, fresh):
        each.on_listed(NetworkPolicy, [netpol("a")])
    mine = msgspec.structs.replace(record("db", app="nobody"), uid="u1")
    one.set_local(mine)
    one.on_changed(Pod, [a_pod("db", "node-1", "db")])
    fresh.on_changed(Pod, [a_pod("db", "node-1", "db")])
    fresh.set_local(mine)
    assert told(one) == told(fresh)
    assert one.compiler.groups != graph().compiler.groups  # the policy selects it
    one.on_changed(Pod, [Gone("shop", "db")])
    without = graph()
    without.on_listed(NetworkPolicy, [netpol("a")])
    without.set_local(mine)
    assert told(one) == told(without)


def test_a_pod_of_another_uid_says_nothing_of_the_one_before() -> None:
    one, fresh = graph(), graph()
    for each in (one, fresh):
        each.set_local(msgspec.structs.replace(record("db"), uid="old"))
    one.on_changed(Pod, [a_pod("db", "node-1", "web", uid="new")])
    assert told(one) == told(fresh)
    assert one.pod("shop", "db", "old") is None
    assert one.pod("shop", "db", "new") is not None


def test_a_static_pod_is_known_by_its_files_uid() -> None:
    one = graph()
    mirror = {"annotations": {"kubernetes.io/config.mirror": "of-the-file"}}
    one.on_changed(Pod, [a_pod("db", "node-1", "db", uid="of-the-api", metadata=mirror)])
    known = one.pod("shop", "db", "of-the-file")
    assert known is not None
    assert known.uid == "of-the-api"


@pytest.mark.parametrize(
    "nobody",
    [
        pytest.param(a_pod("api", "node-2", "api", "10.65.0.70", phase="Failed"), id="finished"),
        pytest.param(a_pod("api", "node-2", "api"), id="without an address"),
        pytest.param(Gone("shop", "api"), id="gone"),
    ],
)
def test_a_remote_pod_that_is_none_any_more_is_forgotten(nobody: Resource | Gone) -> None:
    one, fresh = graph(), graph()
    for each in (one, fresh):
        each.on_listed(NetworkPolicy, [netpol("a")])
        each.set_local(record())
    one.on_changed(Pod, [a_pod("api", "node-2", "api", "10.65.0.70")])
    assert told(one) != told(fresh)
    one.on_changed(Pod, [nobody])
    assert told(one) == told(fresh)


EVENTS = [
    (Namespace, namespace("shop", team="a")),
    (Namespace, namespace("shop", team="b")),
    (Namespace, Gone("", "shop")),
    (NetworkPolicy, netpol("a")),
    (NetworkPolicy, netpol("a", "web", "db")),
    (NetworkPolicy, Gone("shop", "a")),
    (WorkloadEndpoint, endpoint("api", "10.65.0.70", "api")),
    (WorkloadEndpoint, endpoint("api", "10.65.0.70", "web")),
    (WorkloadEndpoint, Gone("shop", "api-1")),
    (Node, node("node-2", "172.30.0.2")),
    (Node, node("node-2", "172.30.0.3")),
    (Node, Gone("", "node-2")),
    (Pod, a_pod("far", "node-2", "api", "10.65.0.71")),
    (Pod, a_pod("far", "node-2", "web", "10.65.0.71", phase="Succeeded")),
    (Pod, Gone("shop", "far")),
    (Pod, a_pod("db", "node-1", "api")),
    (Pod, Gone("shop", "db")),
    (IPPool, a_pool(nat=True)),
    (IPPool, a_pool(nat=False)),
    (IPPool, Gone("", "v4")),
    ("set", record()),
    ("set", record("db", "10.65.0.1", "api")),
    ("remove", record()),
]


@given(st.lists(st.sampled_from(EVENTS), max_size=20))
@settings(max_examples=80)
def test_desired_state_is_a_function_of_content_not_of_the_path(path: list[tuple[Any, Any]]) -> None:
    walked, last = graph(), dict[object, tuple[Any, Any]]()
    for kind, what in path:
        tell(walked, kind, what)
        key = (kind, what.namespace, what.name) if isinstance(what, Resource | Gone) else endpoint_key(what)
        last[(key[0], key[1], "api-1") if isinstance(what, Resource) and kind is WorkloadEndpoint else key] = (
            kind,
            what,
        )
    fresh = graph()
    for kind, what in last.values():
        tell(fresh, kind, what)
    assert told(walked) == told(fresh)


def subject(what: Any) -> object:  # noqa: ANN401  # an event's second half
    """Whom an event is about: the last one about each is what counts."""
    return endpoint_key(what) if isinstance(what, Record) else (what.namespace, what.name)


def tell(one: Graph, kind: Any, what: Any) -> None:  # noqa: ANN401
    if kind == "set":
        one.set_local(what)
    elif kind == "remove":
        one.remove_local(what)
    else:
        one.on_changed(kind, [what])


def test_an_endpoint_is_known_by_its_objects_name() -> None:
    one = graph()
    one.set_local(record())
    assert list(one.local) == [EndpointId(f"shop/{endpoint_name(record())}")]
