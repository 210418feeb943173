"""What breaks is survived or mended: agents killed, rules flushed, pods that lie, a store away (invariants 4, 7)."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import pods
from tests.lab.cluster import Cluster, saved

ISOLATE_DB = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]
"""
FLOW = """
import socket, sys, time
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect((sys.argv[1], int(sys.argv[2])))
    sock.settimeout(3)
    print("ready", flush=True)
    lost = sent = 0
    while True:
        sock.send(b"x"); sent += 1
        try: sock.recv(10)
        except OSError: lost += 1
        print(sent, lost, flush=True)
        time.sleep(0.01)
"""


def shop(cluster: Cluster) -> None:
    cluster.run("shop/web", {"app": "web"}, ["53/UDP"], node="node-1")
    cluster.run("shop/api", {"app": "api"}, ["53/UDP"], node="node-2")
    cluster.run("shop/db", {"app": "db"}, ["53/UDP"], node="node-3")


@contextmanager
def flow(cluster: Cluster, source: str, destination: str, family: int = 0) -> Iterator[Callable[[], tuple[int, int]]]:
    """A steady flow between two pods; ends with how many packets were sent and lost."""
    address = cluster.addresses(destination)[family]
    command = (*pods.inside(cluster.state, cluster.pod(source)), sys.executable, "-I", "-c", FLOW, address, "53")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        lines.readline()
        last = [(0, 0)]

        def ended() -> tuple[int, int]:
            process.kill()
            for line in lines:
                numbers = line.split()
                if len(numbers) == 2:
                    last[0] = int(numbers[0]), int(numbers[1])
            return last[0]

        yield ended
        process.kill()


def eventually(condition: Callable[[], bool], limit_s: float = 20) -> None:
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.1)


def test_killed_agents_leave_traffic_and_policy_as_they_are_and_change_nothing_when_restarted(cluster: Cluster) -> None:
    shop(cluster)
    cluster.done("apply", "-f", "-", stdin=ISOLATE_DB)
    nodes = [node.name for node in cluster.state.nodes]
    before = {node: saved(cluster, node) for node in nodes}
    with flow(cluster, "shop/api", "shop/db") as first, flow(cluster, "shop/api", "shop/db", family=1) as second:
        for node in nodes:
            cluster.kill_agent(node)
        assert cluster.reaches("shop/api", "shop/db", 53, "UDP")
        assert not cluster.reaches("shop/web", "shop/db", 53, "UDP")
        for node in nodes:
            cluster.restart_agent(node)
        assert {node: saved(cluster, node) for node in nodes} == before
        for sent, lost in (first(), second()):
            assert sent > 50
            assert lost == 0
    assert not cluster.reaches("shop/web", "shop/db", 53, "UDP")


@pytest.mark.parametrize("node", ["node-3"])
@pytest.mark.parametrize(
    "breakage",
    [
        pytest.param("iptables -F; ip6tables -F", id="filter flushed"),
        pytest.param("iptables -t mangle -F; ip6tables -t mangle -F", id="mangle flushed"),
        pytest.param("iptables -t raw -F; ip6tables -t raw -F", id="raw flushed"),
        pytest.param("iptables -t mangle -D FORWARD 1", id="one jump deleted"),
        pytest.param("ipset flush", id="sets flushed"),
        pytest.param("ipset flush tt4-local", id="one set flushed"),
        pytest.param("ip route flush proto 84; ip -6 route flush proto 84", id="routes flushed"),
        pytest.param("ip route del 10.65.0.0/16; ip route flush root 10.65.0.0/16 proto 84", id="IPv4 routes removed"),
    ],
)
def test_what_is_flushed_or_removed_is_repaired(cluster: Cluster, node: str, breakage: str) -> None:
    shop(cluster)
    cluster.done("apply", "-f", "-", stdin=ISOLATE_DB)
    before = saved(cluster, node)
    cluster.on(node).run(("sh", "-c", f"{breakage}; true"))
    eventually(lambda: saved(cluster, node) == before)
    assert cluster.reaches("shop/api", "shop/db", 53, "UDP")
    assert not cluster.reaches("shop/web", "shop/db", 53, "UDP")
    eventually(lambda: int(str(cluster.status(node)["repairs"])) > 0)


SPOOF = """
import socket, sys
source, destination, port, mark = sys.argv[1:]
six = ":" in source
sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(*((socket.IPPROTO_IPV6, 75) if six else (socket.IPPROTO_IP, 19)), 1)  # IPV6_TRANSPARENT, IP_TRANSPARENT
sock.bind((source, 7000))
for _ in range(3): sock.sendto(mark.encode(), (destination, int(port)))
print("sent")
"""
LISTEN = """
import socket, sys, time
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 6000))
sock.settimeout(0.2)
if len(sys.argv) > 2: sock.sendto(b"hello", (sys.argv[2], 7000))
print("ready", flush=True)
limit = time.monotonic() + float(sys.argv[3] if len(sys.argv) > 3 else 3)
while time.monotonic() < limit:
    try: data, peer = sock.recvfrom(100); print(data.decode(), peer[0], flush=True)
    except TimeoutError: pass
"""


@contextmanager
def listening(cluster: Cluster, pod: str, *arguments: str) -> Iterator[Callable[[], list[str]]]:
    """What a pod hears on port 6000, line by line, until it stops listening by itself."""
    command = (*pods.inside(cluster.state, cluster.pod(pod)), sys.executable, "-I", "-c", LISTEN, *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout
        assert output.readline() == "ready\n"
        yield lambda: output.read().splitlines()


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("liar_on", ["node-1", "node-2"], ids=["on the victim's node", "on another node"])
def test_a_pod_that_speaks_with_anothers_address_is_dropped_in_established_flows_too(
    cluster: Cluster, family: int, liar_on: str
) -> None:
    cluster.run("shop/victim", node="node-1")
    cluster.run("shop/target", node="node-1")
    cluster.run("shop/liar", node=liar_on)
    victim, target = (cluster.addresses(f"shop/{name}")[family] for name in ("victim", "target"))
    with listening(cluster, "shop/target", target, victim, "3") as heard:
        # The target has just sent to the victim's port 7000: what comes back from there is ESTABLISHED to conntrack.
        honest = cluster.inside("shop/victim").run(("python3", "-c", SPOOF, victim, target, "6000", "honest"))
        lying = cluster.inside("shop/liar").run(("python3", "-c", SPOOF, victim, target, "6000", "lying"))
        assert (honest, lying) == ("sent\n", "sent\n")
        lines = heard()
    assert lines.count(f"honest {victim}") == 3
    assert not [line for line in lines if line.startswith("lying")]


def test_with_the_agent_dead_an_unknown_interface_gets_nothing_through(cluster: Cluster) -> None:
    cluster.run("shop/a", ports=["53/UDP"], node="node-1")
    cluster.kill_agent("node-1")
    on = cluster.on("node-1")
    on.run(("ip", "netns", "add", "stranger"))
    inside = "ip -n stranger"
    script = f"""
set -e
ip link add tortstranger type veth peer name eth0 netns stranger
ip link set tortstranger up
ip route add 10.65.250.1/32 dev tortstranger
ip -6 route add fd65::bad/128 dev tortstranger
ip -6 addr add fe80::ecee:eeff:feee:eeee/64 dev tortstranger nodad
ip neigh add proxy 169.254.1.1 dev tortstranger
{inside} link set eth0 up
{inside} addr add 10.65.250.1/32 dev eth0
{inside} addr add fd65::bad/128 dev eth0 nodad
{inside} route add 169.254.1.1 dev eth0
{inside} route add default via 169.254.1.1 dev eth0
{inside} -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0
"""
    try:
        on.run(("sh", "-c", script))
        node = cluster.node("node-1").addresses
        for address in (*cluster.addresses("shop/a"), *node):
            probe = (sys.executable, "-I", "-m", "lab.probe", address, "53", "UDP", "1")
            assert on.run(("ip", "netns", "exec", "stranger", *probe)) == "silent\n"
        heard = cluster.probe("shop/a", ("10.65.250.1", 53, "UDP"), ("fd65::bad", 53, "UDP"), wait_s=1)
        assert heard == ["silent", "silent"]
    finally:
        on.run(("ip", "netns", "del", "stranger"))


def test_a_deleted_policy_does_not_cut_flows_and_a_new_one_stops_new_ones(cluster: Cluster) -> None:
    shop(cluster)
    cluster.done("apply", "-f", "-", stdin=ISOLATE_DB)
    with flow(cluster, "shop/api", "shop/db") as ended:
        cluster.done("delete", "-f", "-", stdin=ISOLATE_DB)
        time.sleep(0.3)
        sent, lost = ended()
    assert sent > 10
    assert lost == 0


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_with_the_store_locked_pods_talk_deletes_work_and_adds_are_refused_until_it_is_back(cluster: Cluster) -> None:
    shop(cluster)
    database = cluster.folder.datastore.removeprefix("sqlite://")
    command = (sys.executable, "-c", LOCK, database)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        assert cluster.reaches("shop/web", "shop/api", 53, "UDP")
        web = cluster.pod("shop/web")
        refused = execute_plugin(cluster, "ADD", "new", web.netns)
        assert (refused["code"], "address" in str(refused["msg"])) == (11, True)
        assert execute_plugin(cluster, "DEL", web.container_id, web.netns) == {}
        assert int(str(cluster.status("node-1")["owed"])) >= 1
        holder.stdin.close()
    eventually(lambda: cluster.status("node-1")["owed"] == 0)
    handles = [item["handle"] for item in json.loads(cluster.done("ipam", "list", "-o", "json"))["items"]]
    assert not [handle for handle in handles if web.container_id in handle or ":new:" in handle]


def test_an_agent_that_is_told_to_end_does_although_an_add_waits_for_a_link_to_leave(cluster: Cluster) -> None:
    """The ADD of a container whose last link is still leaving waits for the reaper, which must not go first."""
    node = cluster.on("node-1")
    node.run(("ip", "netns", "add", "term"))
    agent = cluster.node("node-1").agent
    assert agent is not None
    config = cluster.folder.path / "term.json"
    config.write_text(json.dumps(plugin_config(cluster)))
    # One shell, so that all of it falls into the 50 ms for which a link waits for others to leave with it.
    script = f"""
export CNI_CONTAINERID=term CNI_NETNS=/run/netns/term CNI_IFNAME=eth0
CNI_COMMAND=ADD {RELAY} < {config} > /dev/null
CNI_COMMAND=DEL {RELAY} < {config}
CNI_COMMAND=ADD {RELAY} < {config} &
sleep 0.015
kill -TERM {agent.pid}
wait
"""
    try:
        answer = json.loads(node.run(("timeout", "8", "sh", "-c", script)))
        eventually(lambda: not agent.process.alive, 8)
        cluster.restart_agent("node-1")
        execute_plugin(cluster, "DEL", "term", "term")
        assert "ips" in answer or answer["code"] == 11
        eventually(lambda: ":term:" not in cluster.done("ipam", "list", "-o", "json"))
    finally:
        node.run(("ip", "netns", "del", "term"))


RELAY = Path(__file__).parents[2] / "build" / "cni" / "tortie"


def plugin_config(cluster: Cluster) -> dict[str, object]:
    """What a runtime gives the plugin on standard input."""
    found: dict[str, object] = json.loads(cluster.folder.conflist.read_text())["plugins"][0]
    return found | {"name": "tortie", "cniVersion": "1.1.0"}


def execute_plugin(cluster: Cluster, command: str, container: str, netns: str) -> dict[str, object]:
    """The plugin, executed on node-1 as a runtime would; its answer."""
    interface = "eth1" if command == "ADD" else "eth0"
    variables = f"CNI_COMMAND={command} CNI_CONTAINERID={container} CNI_NETNS=/run/netns/{netns} CNI_IFNAME={interface}"
    out = cluster.on("node-1").run(("sh", "-c", f"{variables} {RELAY}; true"), json.dumps(plugin_config(cluster)))
    answer: dict[str, object] = json.loads(out or "{}")
    return answer


def test_another_machine_with_a_nodes_name_is_refused(cluster: Cluster) -> None:
    program = str(Path(sys.executable).with_name("tortie-agent"))
    script = (
        f"{program} --node node-1 --datastore {cluster.folder.datastore} --machine-id impostor "
        f"--state /tmp/impostor --socket /tmp/impostor.sock --node-ip 172.30.0.2 2>&1; echo status $?"
    )
    said = cluster.on("node-2").run(("timeout", "20", "sh", "-c", script))
    assert "tortiectl delete nodes.tortie.dev node-1 --force" in said
    assert "status 1" in said


def test_a_node_and_an_endpoint_that_somebody_deleted_come_back(cluster: Cluster) -> None:
    shop(cluster)
    (name,) = [one for one in cluster.done("get", "workloadendpoints", "-A", "-o", "name").split() if "/web-" in one]
    cluster.done("delete", "nodes.tortie.dev", "node-1", "--force")
    cluster.done("delete", "workloadendpoints", name.partition("/")[2], "-n", "shop", "--force")
    eventually(lambda: "node-1" in cluster.done("get", "nodes.tortie.dev"))
    eventually(lambda: "web" in cluster.done("get", "pods", "-n", "shop"))
    eventually(lambda: cluster.reaches("shop/api", "shop/web", 53, "UDP"))
