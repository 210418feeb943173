"""Objects as files or a store have them become the cluster that verdicts are about."""

from ipaddress import ip_address

import pytest
import yaml

from datastore import codec
from datastore.errors import Invalid
from policy.evaluate import UnknownEndpoint
from policy.model import EndpointId
from policy.snapshot import Cluster, of_resources

CLUSTER = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}},
 spec: {nodeName: n1}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: kube-system},
 spec: {nodeName: n1, hostNetwork: true}, status: {podIP: 172.30.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: starting, namespace: shop}, spec: {nodeName: n1, hostNetwork: true}}
---
{apiVersion: tortie.dev/v1, kind: WorkloadEndpoint, metadata: {name: db-0123456789, namespace: shop, labels: {app: db}},
 spec: {node: n2, pod: db, containerID: c1, network: net, interface: eth0, hostInterface: tort00000000000,
        addresses: [10.0.1.1]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop},
 spec: {podSelector: {}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 172.30.0.1}]}}
---
{apiVersion: tortie.dev/v1, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16}}
"""


@pytest.fixture
def cluster() -> Cluster:
    return of_resources(codec.decode(document) for document in documents(CLUSTER))


def documents(text: str) -> list[dict[str, object]]:
    return list(yaml.safe_load_all(text))


def test_pods_and_workload_endpoints_are_ends_by_the_pods_name(cluster: Cluster) -> None:
    assert set(cluster.snapshot.endpoints) == {"shop/web", "shop/db"}
    assert cluster.end("shop/db") == EndpointId("shop/db")
    assert cluster.snapshot.endpoints[EndpointId("shop/web")].addresses == (
        ip_address("10.0.0.1"),
        ip_address("fd00::1"),
    )


def test_policies_namespaces_and_nodes_are_there_and_the_rest_is_passed_over(cluster: Cluster) -> None:
    assert list(cluster.snapshot.policies) == ["shop/deny"]
    assert cluster.snapshot.namespaces["shop"] == {"team": "a"}
    assert cluster.snapshot.nodes == {"n1": (ip_address("172.30.0.1"),)}


def test_a_pod_on_the_hosts_network_is_its_nodes_address(cluster: Cluster) -> None:
    assert cluster.end("kube-system/agent") == ip_address("172.30.0.1")
    assert cluster.end("192.0.2.1") == ip_address("192.0.2.1")


@pytest.mark.parametrize("name", ["shop/nosuch", "shop/starting"])
def test_a_pod_that_is_not_there_is_said_so(cluster: Cluster, name: str) -> None:
    with pytest.raises(UnknownEndpoint, match=name):
        cluster.end(name)


def test_what_is_neither_a_name_nor_an_address_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="web"):
        cluster.end("web")


def test_an_object_that_cannot_be_understood_is_named() -> None:
    status = "status: {podIP: none, podIPs: [{ip: none}]}"
    text = f"{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}}, {status}}}"
    with pytest.raises(Invalid, match="shop/web"):
        of_resources(codec.decode(document) for document in documents(text))
