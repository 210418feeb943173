"""A cluster as its users see it: pods, addresses, routes, policies by protocol and port, explained as enforced."""

import json
import os
import signal
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import ip_address, ip_network

import pytest

from lab.state import LabError
from tests.lab.cluster import Cluster

ALLOW_API = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 5432}]
"""
ONLY_IPV4 = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{ipBlock: {cidr: 10.65.0.0/16}}]}]
"""


def shop(cluster: Cluster) -> None:
    cluster.run_all(
        {
            "shop/web": ({"app": "web"}, ["http:8080"]),
            "shop/api": ({"app": "api"}, ["8080", "53/UDP"]),
            "shop/db": ({"app": "db"}, ["postgres:5432", "53/UDP", "9999/SCTP", "8080"]),
        }
    )


def test_pods_of_all_nodes_reach_each_other_in_both_families(cluster: Cluster) -> None:
    shop(cluster)
    for source in ("web", "api", "db"):
        for destination in ("web", "api", "db"):
            assert cluster.reaches(f"shop/{source}", f"shop/{destination}", 8080)


def test_pods_of_one_node_reach_each_other(cluster: Cluster) -> None:
    cluster.run("shop/a", ports=["80"], node="node-1")
    cluster.run("shop/b", ports=["80"], node="node-1")
    assert cluster.reaches("shop/a", "shop/b", 80)
    assert cluster.reaches("shop/b", "shop/a", 80)


def test_every_pod_has_an_address_of_each_pool_and_none_is_shared(cluster: Cluster) -> None:
    shop(cluster)
    addresses = [address for name in ("web", "api", "db") for address in cluster.addresses(f"shop/{name}")]
    assert len(set(addresses)) == 6
    pools = [ip_network("10.65.0.0/16"), ip_network("fd65::/48")]
    assert all(any(ip_address(address) in pool for pool in pools) for address in addresses)


def test_get_pods_tells_where_each_pod_is(cluster: Cluster) -> None:
    shop(cluster)
    items = json.loads(cluster.done("get", "pods", "-A", "-o", "json"))["items"]
    assert {item["name"] for item in items} == {"web", "api", "db"}
    (db,) = (item for item in items if item["name"] == "db")
    assert db["addresses"] == cluster.addresses("shop/db")
    assert (db["namespace"], db["labels"]) == ("shop", {"app": "db"})
    assert db["hostInterface"] in cluster.on(db["node"]).run(("ip", "-br", "link"))
    keeper = cluster.node(db["node"]).keeper.pid
    assert db["netns"].startswith(f"/proc/{keeper}/root/run/netns/")
    inside = cluster.on(db["node"]).run(("nsenter", f"--net={db['netns']}", "ip", "-br", "addr", "show", "eth0"))
    assert all(address in inside for address in db["addresses"])


def test_a_policy_is_in_force_when_apply_returns_and_gone_when_delete_returns(cluster: Cluster) -> None:
    shop(cluster)
    assert cluster.reaches("shop/web", "shop/db", 5432)
    for _ in range(2):
        cluster.done("apply", "-f", "-", stdin=ALLOW_API)
        assert not cluster.reaches("shop/web", "shop/db", 5432)
        assert cluster.reaches("shop/api", "shop/db", 5432)
        cluster.done("delete", "-f", "-", stdin=ALLOW_API)
        assert cluster.reaches("shop/web", "shop/db", 5432)


def test_a_pod_that_an_existing_policy_selects_is_isolated_from_its_first_packet(cluster: Cluster) -> None:
    cluster.done("apply", "-f", "-", stdin=ALLOW_API)
    cluster.run("shop/web", {"app": "web"})
    cluster.run("shop/api", {"app": "api"})
    cluster.run("shop/db", {"app": "db"}, ["5432"])
    assert not cluster.reaches("shop/web", "shop/db", 5432)
    assert cluster.reaches("shop/api", "shop/db", 5432)


BY_PROTOCOL = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{ports: [{port: %s, protocol: %s}]}]
"""


@pytest.mark.parametrize(
    ("port", "protocol", "opened"),
    [
        pytest.param("5432", "TCP", "5432/TCP", id="TCP by number"),
        pytest.param("postgres", "TCP", "5432/TCP", id="TCP by name"),
        pytest.param("53", "UDP", "53/UDP", id="UDP"),
        pytest.param("9999", "SCTP", "9999/SCTP", id="SCTP"),
        pytest.param("8000, endPort: 8080", "TCP", "8080/TCP", id="a range"),
        pytest.param("53", "TCP", "", id="the number of another protocol"),
    ],
)
def test_ports_open_by_number_name_range_and_protocol(cluster: Cluster, port: str, protocol: str, opened: str) -> None:
    shop(cluster)
    all_ports = ["5432/TCP", "53/UDP", "9999/SCTP", "8080/TCP"]
    assert open_ports(cluster, all_ports) == all_ports
    cluster.done("apply", "-f", "-", stdin=BY_PROTOCOL % (port, protocol))
    assert open_ports(cluster, all_ports) == [one for one in all_ports if one == opened]


def open_ports(cluster: Cluster, ports: list[str]) -> list[str]:
    """Those of db's ports that web reaches, in both families."""
    asked = [
        (address, int(port.partition("/")[0]), port.partition("/")[2])
        for port in ports
        for address in cluster.addresses("shop/db")
    ]
    heard = cluster.probe("shop/web", *asked)
    pairs = list(zip(heard[::2], heard[1::2], strict=True))
    assert all(four == six for four, six in pairs), f"the families differ: {pairs}"
    return [port for port, (four, _) in zip(ports, pairs, strict=True) if four == "open"]


EGRESS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-out, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 53, protocol: UDP}]
"""


def test_egress_is_enforced_at_the_sender(cluster: Cluster) -> None:
    shop(cluster)
    cluster.done("apply", "-f", "-", stdin=EGRESS)
    assert cluster.reaches("shop/web", "shop/api", 53, "UDP")
    assert not cluster.reaches("shop/web", "shop/api", 8080)
    assert not cluster.reaches("shop/web", "shop/db", 53, "UDP")
    assert cluster.reaches("shop/api", "shop/web", 8080)


def test_a_namespaces_labels_decide_and_change(cluster: Cluster) -> None:
    namespaces = """
apiVersion: v1
kind: Namespace
metadata: {name: ops, labels: {trusted: "%s"}}
"""
    policy = ALLOW_API.replace(
        "[{podSelector: {matchLabels: {app: api}}}]", "[{namespaceSelector: {matchLabels: {trusted: 'yes'}}}]"
    )
    shop(cluster)
    cluster.run("ops/admin")
    cluster.done("apply", "-f", "-", stdin=policy)
    assert not cluster.reaches("ops/admin", "shop/db", 5432)
    cluster.done("apply", "-f", "-", stdin=namespaces % "yes")
    assert cluster.reaches("ops/admin", "shop/db", 5432)
    cluster.done("apply", "-f", "-", stdin=namespaces % "no")
    assert not cluster.reaches("ops/admin", "shop/db", 5432)


def test_a_node_reaches_its_own_isolated_pod_and_not_another_nodes(cluster: Cluster) -> None:
    cluster.run("shop/db", {"app": "db"}, ["5432"], node="node-1")
    cluster.done("apply", "-f", "-", stdin=ALLOW_API)
    address = cluster.addresses("shop/db")[0]
    near = (sys.executable, "-I", "-m", "lab.probe", address, "5432", "TCP", "2")
    assert cluster.on("node-1").run(near) == "open\n"
    assert cluster.on("node-2").run(near) == "silent\n"


def test_explain_agrees_with_packets_and_names_the_clause(cluster: Cluster) -> None:
    shop(cluster)
    cluster.done("apply", "-f", "-", stdin=ALLOW_API)
    denied = cluster.ctl("policy", "explain", "shop/web", "shop/db", "--port", "5432")
    assert denied.status == 1
    assert "isolated by shop/db" in denied.out
    assert "ingress[0].from[0].podSelector app=api does not match app=web" in denied.out
    assert cluster.ctl("lab", "probe", "shop/web", "shop/db", "5432", "--wait", "1").status == 1
    allowed = cluster.ctl("policy", "explain", "shop/api", "shop/db", "--port", "5432/TCP")
    assert (allowed.status, "ALLOWED" in allowed.out) == (0, True)
    assert cluster.ctl("lab", "probe", "shop/api", "shop/db", "5432/TCP").status == 0
    address = cluster.addresses("shop/db")[0]
    assert cluster.ctl("policy", "explain", "shop/web", address, "--port", "5432").status == 1
    assert cluster.ctl("lab", "probe", "shop/api", address, "53/UDP", "--wait", "1").status == 1


def test_blocks_are_routed_to_their_nodes_and_their_own_are_blackholes(cluster: Cluster) -> None:
    shop(cluster)
    nodes = {
        item["metadata"]["name"]: item["spec"]
        for item in json.loads(cluster.done("get", "nodes", "-o", "json"))["items"]
    }
    for name, spec in nodes.items():
        lines = cluster.on(name).run(("ip", "route")) + cluster.on(name).run(("ip", "-6", "route"))
        for block in spec["blocks"]:
            assert f"blackhole {block}" in lines or f"blackhole {ip_network(block)}" in lines
        for other in nodes.values():
            if other is not spec:
                assert all(f"{block} via {gateway_of(other, block)}" in lines for block in other["blocks"])


def gateway_of(node: dict[str, list[str]], block: str) -> str:
    return node["addresses"][0 if ip_network(block).version == 4 else 1]


def test_ipam_lists_assigns_and_releases(cluster: Cluster) -> None:
    shop(cluster)
    listed = json.loads(cluster.done("ipam", "list", "-o", "json"))["items"]
    assert {(item["namespace"], item["pod"]) for item in listed} == {("shop", "web"), ("shop", "api"), ("shop", "db")}
    assert cluster.ctl("ipam", "assign", "").status == 2
    assert cluster.ctl("ipam", "assign", "a/b c").status == 2
    assert cluster.ctl("ipam", "assign", "printer", "--pool", "nosuch").status == 2
    assert cluster.ctl("ipam", "list", "--of-node", "nope").status == 2
    (taken,) = json.loads(cluster.done("ipam", "assign", "printer", "-o", "json"))["items"]
    assert taken["handle"] == "manual/printer"
    assert cluster.ctl("ipam", "release", cluster.addresses("shop/db")[0]).status == 1
    cluster.done("ipam", "release", "printer")
    assert cluster.ctl("ipam", "release", "printer").status == 1
    after = json.loads(cluster.done("ipam", "list", "-o", "json"))["items"]
    assert {item["address"] for item in after} == {item["address"] for item in listed}


def test_a_removed_pod_leaves_nothing(cluster: Cluster) -> None:
    cluster.run("shop/db", {"app": "db"}, ["5432"], node="node-2")
    pod = cluster.pod("shop/db")
    cluster.done("lab", "rm", "shop/db")
    assert json.loads(cluster.done("get", "pods", "-A", "-o", "json"))["items"] == []
    assert json.loads(cluster.done("ipam", "list", "-o", "json"))["items"] == []
    assert pod.netns not in cluster.on("node-2").run(("ls", "/run/netns"))
    assert "proto 84 scope link" not in cluster.on("node-2").run(("ip", "route", "show", "root", "10.65.0.0/16"))
    assert cluster.ctl("lab", "rm", "shop/db").status == 2


def test_exec_runs_in_the_pod_and_gives_its_exit_status(cluster: Cluster) -> None:
    cluster.run("shop/a")
    said = cluster.ctl("lab", "exec", "shop/a", "--", "sh", "-c", "ip -br addr show eth0; exit 7")
    assert said.status == 7
    assert cluster.addresses("shop/a")[0] in said.out


def test_status_says_that_every_node_is_ready(cluster: Cluster) -> None:
    said = cluster.ctl("lab", "status")
    assert said.status == 0
    rows = [line.split()[:2] for line in said.out.splitlines()[1:]]
    assert rows == [*([f"node-{n}", "ready"] for n in (1, 2, 3)), ["controller", "leads"]]


def test_a_pod_that_cannot_listen_leaves_nothing_and_its_name_is_free(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/bin/false")  # what its server is run by
        with pytest.raises(LabError, match="shop/a can't listen"):
            cluster.run("shop/a", ports=["80"], node="node-1")
    assert cluster.folder.pods() == []
    items = json.loads(cluster.done("ipam", "list", "-o", "json"))["items"]
    assert [item for item in items if item["pod"] == "a"] == []
    cluster.run("shop/a", ports=["80"], node="node-1")


@pytest.mark.parametrize("ports", [["80", "80/TCP"], ["a:80", "a:81"]])
def test_ports_that_stand_twice_are_refused(cluster: Cluster, ports: list[str]) -> None:
    said = cluster.ctl("lab", "run", "shop/a", *(word for port in ports for word in ("--port", port)))
    assert (said.status, "twice" in said.err) == (2, True)
    assert cluster.folder.pods() == []


def test_of_several_pods_with_one_name_made_at_once_one_comes_to_be(cluster: Cluster) -> None:
    with ThreadPoolExecutor(max_workers=3) as pool:
        said = list(pool.map(lambda _: cluster.ctl("lab", "run", "shop/dup"), range(3)))
    assert sorted(one.status for one in said) == [0, 1, 1]
    assert len(cluster.folder.pods()) == 1


def test_a_node_without_its_agent_gets_no_pod_until_it_is_started_again(cluster: Cluster) -> None:
    cluster.run("shop/a", node="node-1")
    cluster.run("shop/b", node="node-2")
    cluster.kill_agent("node-3")
    assert "on node-3" not in cluster.done("lab", "run", "shop/c")
    refused = cluster.ctl("lab", "run", "shop/d", "--node", "node-3")
    assert (refused.status, "tortiectl lab restart node-3" in refused.err) == (3, True)
    assert cluster.done("lab", "restart", "node-3") == "node-3 serves\n"
    cluster.run("shop/d", node="node-3")


def test_an_agent_that_hangs_is_not_waited_for_longer_than_said(cluster: Cluster) -> None:
    agent = cluster.node("node-2").agent
    assert agent is not None
    with closing(sqlite3.connect(cluster.folder.path / "tortie.db", timeout=30, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")  # so that it isn't writing just then
        os.kill(agent.pid, signal.SIGSTOP)
        file.execute("ROLLBACK")
    try:
        began = time.monotonic()
        policies = [ALLOW_API.replace("name: db", f"name: db{number}") for number in range(4)]
        said = cluster.ctl("apply", "-f", "-", stdin="---".join(policies))
        assert (said.status, "node-2" in said.err) == (5, True)
        assert time.monotonic() - began < 14
    finally:
        os.kill(agent.pid, signal.SIGCONT)


def test_where_the_families_differ_explain_tells_both_and_agrees_with_packets(cluster: Cluster) -> None:
    cluster.run("shop/web", {"app": "web"}, node="node-1")
    cluster.run("shop/db", {"app": "db"}, ["5432"], node="node-2")
    cluster.done("apply", "-f", "-", stdin=ONLY_IPV4)
    told = cluster.ctl("policy", "explain", "shop/web", "shop/db", "--port", "5432")
    assert (told.status, told.out.count("ALLOWED  shop/web"), told.out.count("DENIED  shop/web")) == (1, 1, 1)
    assert cluster.ctl("lab", "probe", "shop/web", "shop/db", "5432").status == 1


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--wait", "nan", "10.0.0.1", "80"), id="no time"),
        pytest.param(("--wait", "-1", "10.0.0.1", "80"), id="a time before now"),
        pytest.param(("ff02::1", "80/UDP"), id="a group's address"),
        pytest.param(("10.0.0.1", "9" * 5000), id="a port of 5000 digits"),
    ],
)
def test_a_probe_of_nonsense_is_refused_in_a_line(cluster: Cluster, arguments: tuple[str, ...]) -> None:
    said = cluster.ctl("lab", "probe", "shop/web", *arguments)
    assert (said.status, said.err.count("\n")) == (2, 1)
