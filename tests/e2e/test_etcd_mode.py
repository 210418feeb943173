"""A cluster whose network is in an etcd: addresses and policies from there, with the controller killed meanwhile."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import in_etcd, tortie
from tests.e2e.documents import PORT, agnhost, apply, busybox, deployment, namespace, pod, policy, remove
from tests.e2e.in_etcd import Etcd
from tests.e2e.running import Running, all_running, container_id, eventually, running
from tests.kube.whole.cluster import Cluster

SHOP = "shop"
TWENTY = 20
_DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/twenty"
_WITHIN_S = 90.0


@pytest.fixture(scope="module")
def cluster(able: None) -> Iterator[Cluster]:
    """Two nodes, and nothing else yet."""
    if reason := tortie.missing():
        pytest.skip(reason)
    with Cluster.started(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def etcd(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Etcd:
    """The etcd of the cluster on which tortie is installed."""
    etcd = Etcd(cluster)
    folder: Path = tmp_path_factory.mktemp("kustomization")
    in_etcd.install(cluster, etcd, folder)
    return etcd


def kill_controller(cluster: Cluster) -> None:
    """By SIGKILL: its Lease runs out by itself. The kubelet starts another."""
    (found,) = tortie.program_pods(cluster, tortie.CONTROLLER).values()
    cluster.node(found["spec"]["nodeName"]).kill_container(container_id(found))


def test_the_network_is_in_the_etcd_and_nowhere_else(cluster: Cluster, etcd: Etcd) -> None:
    assert {one["metadata"]["name"] for one in etcd.items("nodes.tortie.dev")} == {"node-1", "node-2"}
    assert [one["metadata"]["name"] for one in etcd.items("ippools")] == ["default-ipv4"]
    assert cluster.kubectl("get", "crd", "-o", "name").split() == []
    leases = cluster.api.items(f"/apis/coordination.k8s.io/v1/namespaces/{tortie.NAMESPACE}/leases")
    assert leases == []
    asked = ("exec", f"deployment/{tortie.CONTROLLER}", "--", "tortiectl", "get", "ippools")
    assert "default-ipv4" in cluster.kubectl("-n", tortie.NAMESPACE, *asked)


def test_pods_of_both_nodes_talk_and_a_policy_holds(cluster: Cluster, etcd: Etcd) -> None:
    pods = [
        pod("db", agnhost(), node="node-1", in_namespace=SHOP),
        pod("friend", agnhost(), node="node-2", in_namespace=SHOP),
        pod("stranger", agnhost(), node="node-2", in_namespace=SHOP),
    ]
    apply(cluster, namespace(SHOP), *pods)
    db, friend, stranger = (all_running(cluster, f"app={name}", 1, SHOP)[0] for name in ("db", "friend", "stranger"))

    def until(**heard: str) -> None:
        who: dict[str, Running] = {"friend": friend, "stranger": stranger}
        eventually(
            str(heard),
            lambda: all(who[name].place.hears(db.address, seconds=0.5) == met for name, met in heard.items()),
        )

    until(friend="open", stranger="open")
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": PORT}]}
    only_friends = policy("only-friends", {"app": "db"}, in_namespace=SHOP, ingress=[rule])
    apply(cluster, only_friends)
    until(friend="open", stranger="silent")
    cluster.kubectl("label", "pod", "stranger", "app=friend", "--overwrite", "-n", SHOP)
    until(friend="open", stranger="open")
    copies = {one["metadata"]["name"] for one in etcd.items("networkpolicies")}
    assert copies == {"only-friends"}
    remove(cluster, only_friends, *pods)
    eventually("the policy is gone", lambda: etcd.items("networkpolicies") == [])


def test_twenty_pods_come_and_go_while_the_controller_is_killed(cluster: Cluster, etcd: Etcd) -> None:
    apply(cluster, policy("guarded", {"app": "twenty"}, ingress=[]), deployment("twenty", TWENTY, busybox()))
    eventually("some are ready, and in the copy", lambda: ready(cluster) >= 5 and len(copied(etcd)) >= 5, _WITHIN_S)
    kill_controller(cluster)
    pods = cluster.wait_pods("app=twenty", TWENTY)
    assert max(Counter(one["status"]["podIP"] for one in pods).values()) == 1
    first, last = running(cluster, pods[0]), running(cluster, pods[-1])
    assert first.place.hears(last.address, seconds=0.5) == "silent"
    assert etcd.owned().keys() == {one["status"]["podIP"] for one in pods}
    cluster.api.merge(_DEPLOYMENT, {"spec": {"replicas": 0}})
    eventually("no pod is left", lambda: not cluster.pods("app=twenty"), _WITHIN_S)
    eventually("no address is left", lambda: etcd.owned() == {}, _WITHIN_S)
    eventually("no link is left", lambda: not any(links(cluster)), _WITHIN_S)
    eventually("no copy is left", lambda: copied(etcd) == set(), _WITHIN_S)


def ready(cluster: Cluster) -> int:
    return int(cluster.api.get(f"{_DEPLOYMENT}/status")["status"].get("readyReplicas", 0))


def copied(etcd: Etcd) -> set[str]:
    """The Pods of the copy with addresses of their own."""
    return {
        one["metadata"]["name"]
        for one in etcd.items("pods.core")
        if not one["spec"].get("hostNetwork") and one.get("status", {}).get("podIPs")
    }


def links(cluster: Cluster) -> Iterator[str]:
    for node in cluster.nodes:
        yield from (line for line in node.run("ip", "-o", "link").splitlines() if ": tort" in line)
