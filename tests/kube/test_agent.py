"""An agent on a real API server: Pods are its endpoints, from the first ADD to the apiserver's absence."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube.apiserver import TORTIE_TOKEN, ApiServer
from tests.kube.node import NODE, KubeHost, eventually, kube_hosts, register
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

REMOTE = ("10.65.9.9", "fd65::9:9")
"""Of a pod on another node, which the outside plays."""
ONLY_API = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "only-api", "namespace": "shop"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}],
    },
}
POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"


@pytest.fixture
def node(server: ApiServer, tmp_path: Path) -> Iterator[KubeHost]:
    with kube_hosts(server, tmp_path) as host:
        host.start()
        yield host


def heard_from_outside(node: KubeHost, address: str) -> str:
    """What the remote pod hears of a local one: closed where packets pass, silent where they don't."""
    return node.heard(node.outside, address)


def play_remote(node: KubeHost) -> None:
    outside = node.outside
    outside.ip(*(f"addr add {one} dev lo" for one in REMOTE), "route add 10.65.0.0/16 via 172.30.0.1 src 10.65.9.9")
    outside.ip("route add fd65::/48 via fd30::1 src fd65::9:9")


def annotations(node: KubeHost, name: str) -> dict[str, str]:
    found: dict[str, str] = node.get(f"/api/v1/namespaces/shop/pods/{name}")["metadata"].get("annotations", {})
    return found


def test_the_machine_is_the_kubernetes_node_and_is_reached_by_its_internal_ips(node: KubeHost) -> None:
    kubernetes = node.get(f"/api/v1/nodes/{NODE}")
    ours = node.get(f"/apis/tortie.dev/v1/nodes/{NODE}")
    assert ours["spec"]["machine"] == kubernetes["metadata"]["uid"]
    assert ours["spec"]["addresses"] == ["172.30.0.1", "fd30::1"]
    assert [one["uid"] for one in ours["metadata"]["ownerReferences"]] == [kubernetes["metadata"]["uid"]]


def test_the_kubernetes_node_is_told_that_its_network_is_there(node: KubeHost) -> None:
    def says() -> bool:
        conditions = node.get(f"/api/v1/nodes/{NODE}")["status"].get("conditions", [])
        return [one["status"] for one in conditions if one["type"] == "NetworkUnavailable"] == ["False"]

    eventually("NetworkUnavailable is False", says)


def test_a_pod_is_isolated_by_its_pods_labels_before_its_add_answers(node: KubeHost) -> None:
    node.server.make(POLICIES, ONLY_API)
    play_remote(node)
    uid, where = node.make_pod("db", labels={"app": "db"}), node.pod()
    address, _ = node.add("db", uid, where)
    assert heard_from_outside(node, address) == "silent"
    node.make_pod("api", "node-2", labels={"app": "api"})
    assert heard_from_outside(node, address) == "silent"
    told = {"metadata": {"annotations": {"cni.tortie.dev/podIPs": json.dumps(REMOTE)}}}
    node.patch("/api/v1/namespaces/shop/pods/api", told)
    eventually("the peer is known by its annotation", lambda: heard_from_outside(node, address) == "closed")
    node.tell_status("api", "10.65.9.10")
    eventually("the kubelet's word counts", lambda: heard_from_outside(node, address) == "silent")
    node.tell_status("api", *REMOTE)
    eventually("the kubelet's word counts", lambda: heard_from_outside(node, address) == "closed")
    node.tell_status("api", *REMOTE, phase="Succeeded")
    eventually("a finished pod is nobody", lambda: heard_from_outside(node, address) == "silent")


def test_a_local_pods_labels_are_followed(node: KubeHost) -> None:
    node.server.make(POLICIES, ONLY_API)
    play_remote(node)
    uid, where = node.make_pod("web", labels={"app": "web"}), node.pod()
    address, _ = node.add("web", uid, where)
    assert heard_from_outside(node, address) == "closed"
    node.patch("/api/v1/namespaces/shop/pods/web", {"metadata": {"labels": {"app": "db"}}})
    eventually("the new label counts", lambda: heard_from_outside(node, address) == "silent")


def test_a_pods_addresses_are_told_early_and_nobody_writes_a_workload_endpoint(node: KubeHost) -> None:
    uid, where = node.make_pod("web"), node.pod()
    addresses = node.add("web", uid, where)
    eventually("told", lambda: annotations(node, "web").get("cni.tortie.dev/podIPs") == json.dumps(addresses))
    assert node.get("/apis/tortie.dev/v1/workloadendpoints")["items"] == []


def test_another_pod_of_the_name_isnt_annotated(node: KubeHost) -> None:
    """The kubelet's word for a pod that was replaced comes to nothing."""
    node.make_pod("web")
    said = node.run("ADD", "web", "00000000-0000-0000-0000-000000000000", node.pod())
    assert (said.status, said.json["code"]) == (1, 11)
    assert "has the uid" in said.json["details"]


def test_a_pod_that_isnt_there_gets_no_network(node: KubeHost) -> None:
    said = node.run("ADD", "nobody", "", node.pod())
    assert (said.status, said.json["code"]) == (1, 11)
    assert "no pod shop/nobody" in said.json["details"]
    assert node.owned() == {}


def test_a_pods_annotations_ask_for_its_address(node: KubeHost) -> None:
    wanted = {"cni.tortie.dev/ipAddrs": '["10.65.3.3"]'}
    uid, where = node.make_pod("db", annotations=wanted), node.pod()
    assert node.add("db", uid, where)[0] == "10.65.3.3"


def test_with_the_api_server_away_pods_talk_on_del_works_and_add_says_why_not(node: KubeHost) -> None:
    uid, where = node.make_pod("web"), node.pod()
    address, _ = node.add("web", uid, where)
    other, place = node.make_pod("late"), node.pod()
    gone, taken = node.make_pod("gone"), node.pod()
    node.add("gone", gone, taken)
    node.way.cut()
    assert node.heard(where, "172.30.0.1") == "closed"
    assert node.run("DEL", "gone", gone, taken).status == 0
    said = node.run("ADD", "late", other, place)
    assert (said.status, said.json["code"]) == (1, 11)
    assert node.page("/livez")[0] == 200
    eventually("a warning", lambda: "warning: the datastore can't be watched" in node.page("/readyz")[1])
    assert node.page("/readyz")[0] == 200
    node.way.mend()
    eventually("ADD works again", lambda: node.run("ADD", "late", other, place).status == 0)
    eventually("what the DEL owed is freed", lambda: not any("c-gone" in owner for owner in node.owned().values()))
    assert address in node.owned()


def test_a_pod_costs_the_api_server_a_bounded_number_of_requests(node: KubeHost) -> None:
    where = [node.pod() for _ in range(4)]
    uids = [node.make_pod(f"w{number}") for number in range(4)]
    node.add("w0", uids[0], where[0])  # claims a block of each family
    eventually("told", lambda: annotations(node, "w0"))
    before = counted(node)
    for number in range(1, 4):
        node.add(f"w{number}", uids[number], where[number])
    for number in range(1, 4):
        eventually("told", lambda number=number: annotations(node, f"w{number}"))  # type: ignore[misc]
    asked = {key: (amount - before.get(key, 0)) / 3 for key, amount in counted(node).items()}
    asked = {key: each for key, each in asked.items() if each}
    assert asked.get(("PATCH", "pods", "status"), 0) == 1
    assert asked.get(("PUT", "ipblocks", ""), 0) == 2  # one block of each family
    # The test itself reads Pods by GET; nothing else is asked of a pod that the watch knows.
    assert {key for key in asked if key[0] not in ("GET", "WATCH")} == {
        ("PATCH", "pods", "status"),
        ("PUT", "ipblocks", ""),
    }


def counted(node: KubeHost) -> dict[tuple[str, str, str], int]:
    """Requests that the API server has answered, by verb, resource and subresource."""
    _, body = node.server.ask("GET", "/metrics")
    found: dict[tuple[str, str, str], int] = {}
    for line in body.decode().splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(pair.split("=", 1) for pair in line[24 : line.index("}")].replace('"', "").split(","))
            key = (labels["verb"], labels["resource"], labels["subresource"])
            if key[1] in ("pods", "ipblocks", "nodes", "workloadendpoints", "events"):
                found[key] = found.get(key, 0) + int(float(line.rsplit(" ", 1)[1]))
    return found


def test_metrics_are_told_in_prometheus_format(node: KubeHost) -> None:
    uid, where = node.make_pod("web"), node.pod()
    node.add("web", uid, where)
    other, nowhere = node.make_pod("db", annotations={"cni.tortie.dev/ipv4pools": '["nowhere"]'}), node.pod()
    assert node.run("ADD", "db", other, nowhere).status == 1
    peer = {"apiVersion": "tortie.dev/v1", "kind": "Node", "metadata": {"name": "node-2"}}
    node.server.make("/apis/tortie.dev/v1/nodes", {**peer, "spec": {"machine": "m", "addresses": ["172.30.0.2"]}})
    eventually("the peer", lambda: 'tortie_peers{state="routed"} 1.0' in node.page("/metrics")[1])
    assert node.run("DEL", "web", uid, where).status == 0
    eventually("the release", lambda: 'tortie_ipam_releases_total{ip_family="4"} 1.0' in node.page("/metrics")[1])
    status, text = node.page("/metrics")
    assert status == 200
    for line in (
        'tortie_cni_requests_total{code="0",command="ADD"} 1.0',
        "tortie_agent_ready 1.0",
        "tortie_datastore_connected 1.0",
        'tortie_endpoints{scope="local"} 0.0',
        "tortie_pod_isolation_duration_seconds_count 1.0",
        'tortie_cni_request_duration_seconds_count{command="ADD",result="success"} 1.0',
        'tortie_cni_request_duration_seconds_count{command="ADD",result="failure"} 1.0',
        'tortie_ipam_allocations_total{ip_family="4",source="own"} 1.0',
        'tortie_ipam_allocation_failures_total{reason="NoPool"} 1.0',
        'tortie_iptables_restore_total{ip_family="4",result="success"}',
        'tortie_iptables_restore_duration_seconds_count{ip_family="6"}',
        "tortie_iptables_lock_wait_seconds_count",
        "tortie_route_sync_duration_seconds_count",
        'tortie_peers{state="routed"} 1.0',
        'tortie_datastore_watch_last_heard_timestamp_seconds{kind="networkpolicies.networking.k8s.io"} 1.',
        'tortie_datastore_requests_total{code="ok",operation="list"}',
        "tortie_build_info",
    ):
        assert line in text


def test_who_has_no_address_is_told_in_an_event(node: KubeHost) -> None:
    wanted = {"cni.tortie.dev/ipv4pools": '["nowhere"]'}
    uid = node.make_pod("db", annotations=wanted)
    assert node.run("ADD", "db", uid, node.pod()).status == 1

    def told() -> list[str]:
        found = node.events("IPAllocationFailed")
        return [one["message"] for one in found if one["involvedObject"]["uid"] == uid]

    eventually("an Event", told)
    assert "kubectl get ippools" in told()[0]


def test_what_others_change_in_the_kernel_is_told_in_one_event(node: KubeHost) -> None:
    node.server.ask("DELETE", "/api/v1/namespaces/default/events")
    node.namespace.run("iptables-nft", "-t", "mangle", "-F")
    eventually("an Event", lambda: node.events("IptablesDriftRepaired"))
    node.namespace.run("iptables-nft", "-t", "filter", "-F")
    eventually("mended", lambda: "TORTIE-" in node.namespace.run("iptables-nft-save", "-t", "filter"))
    (event,) = node.events("IptablesDriftRepaired")
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": NODE}
    assert "another program changed our sets and rules" in event["message"]


def test_a_kernel_that_refuses_is_told_of_and_so_is_that_it_takes_rules_again(
    server: ApiServer, tmp_path: Path
) -> None:
    programs, refuses = tmp_path / "programs", tmp_path / "refuses"
    programs.mkdir()
    (programs / "ipset").write_text(f'#!/bin/sh\n[ ! -e {refuses} ] || exit 3\nexec /usr/sbin/ipset "$@"\n')
    (programs / "ipset").chmod(0o755)
    with kube_hosts(server, tmp_path) as host:
        host.start(env={"PATH": f"{programs}:{os.environ['PATH']}"})
        assert host.events("DataplaneDegraded") == host.events("DataplaneReady") == []
        refuses.touch()
        eventually("an Event", lambda: host.events("DataplaneDegraded"))
        assert host.page("/readyz")[0] == 503
        refuses.unlink()
        eventually("another", lambda: host.events("DataplaneReady"))
        assert "rules can't be applied: ipset" in host.events("DataplaneDegraded")[0]["message"]


def test_a_kubernetes_node_that_comes_late_is_waited_for(server: ApiServer, tmp_path: Path) -> None:
    with kube_hosts(server, tmp_path) as host:
        server.ask("DELETE", f"/api/v1/nodes/{NODE}")
        host.begin()
        eventually("it waits", lambda: f"there is no Kubernetes Node {NODE} yet" in host.log())
        assert host.page("/livez")[0] == 200
        assert host.page("/readyz") == (503, "the agent starts\n")
        register(server)
        eventually("it serves", lambda: host.page("/readyz") == (200, "ok\n"))


def test_a_node_that_was_registered_anew_is_another_machine_until_its_old_node_is_gone(node: KubeHost) -> None:
    uid, where = node.make_pod("web"), node.pod()
    address, _ = node.add("web", uid, where)
    node.stop()
    node.server.ask("DELETE", f"/api/v1/nodes/{NODE}")
    register(node.server)
    agent = node.begin()
    assert agent.wait(60) == 1
    eventually("an Event", lambda: node.events("NodeNameTaken"))
    node.server.ask("DELETE", f"/apis/tortie.dev/v1/nodes/{NODE}")  # as Kubernetes' garbage collector does
    node.start()
    assert node.owned()[address].split(":")[1] == "c-web"
    assert node.heard(where, "172.30.0.1") == "closed"


def test_a_token_that_is_replaced_is_read_again(server: ApiServer, tmp_path: Path) -> None:
    with kube_hosts(server, tmp_path) as host:
        token = tmp_path / "token"
        token.write_text(TORTIE_TOKEN)
        server.kubeconfig(tmp_path / "kubeconfig", {"tokenFile": str(token)})
        host.start()
        token.write_text("nobody-token")  # may do nothing
        uid, where = host.make_pod("web"), host.pod()
        eventually("refused", lambda: host.run("ADD", "web", uid, where).status)
        token.write_text(TORTIE_TOKEN)
        eventually("served again", lambda: host.run("ADD", "web", uid, where).status == 0)


def test_the_conflist_comes_when_the_agent_serves_and_follows_its_file(server: ApiServer, tmp_path: Path) -> None:
    folder, file = tmp_path / "net.d", tmp_path / "10-tortie.conflist"
    folder.mkdir()
    (folder / "05-other.conflist").write_text("{}")
    document = {"cniVersion": "1.0.0", "name": "tortie", "plugins": [{"type": "tortie"}]}
    file.write_text(json.dumps(document))
    with kube_hosts(server, tmp_path) as host:
        host.way.cut()
        host.begin("--conflist", str(file), "--conflist-dir", str(folder))
        installed = folder / file.name
        eventually("it tries", lambda: host.log())
        assert not installed.exists()
        host.way.mend()
        host.stop()
        host.start("--conflist", str(file), "--conflist-dir", str(folder))
        eventually("installed", installed.exists)
        status, text = host.page("/readyz")
        assert status == 200
        assert "05-other.conflist before 10-tortie.conflist" in text
        eventually("an Event", lambda: host.events("ForeignCNIConfigDetected"))
        file.write_text(json.dumps({**document, "cniVersion": "0.4.0"}))
        eventually("it follows", lambda: "0.4.0" in installed.read_text())
        file.write_text("no conflist")
        eventually("it says why not", lambda: "can't be installed" in host.page("/readyz")[1])
        assert "0.4.0" in installed.read_text()
