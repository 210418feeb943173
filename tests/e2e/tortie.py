"""tortie on a cluster: installed as an administrator does, and what it has written, in the API and on nodes."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_network

from tests.host import BIN, ROOT, Said
from tests.kube.server import wait_for
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.node import Node

IMAGE = ROOT / "build" / "image" / "tortie.tar"
MANIFESTS = ROOT / "manifests"
NAMESPACE = "tortie-system"
AGENT = "tortie-agent"
CONTROLLER = "tortie-controller"
GRACE_S = 10
"""The shortest that ClusterConfiguration allows."""
_NOT_OURS = ("KUBE", "kubernetes", "CNI-HOSTPORT", " ACCEPT [")
"""kube-proxy's and the kubelet's chains, portmap's, which it never takes away, and built-in ones."""
_SAID_BYTES = 8000
_TOLD_WITHIN_S = 300.0
_ROLLED_TRIES = 3
BLOCKS = "/apis/tortie.dev/v1/ipblocks"
_CONFIGURATION = "/apis/tortie.dev/v1/clusterconfigurations/default"


@dataclass(frozen=True, slots=True)
class Installed:
    """A cluster with tortie, and how it came to that."""

    cluster: Cluster
    ready_before: frozenset[str]
    """The nodes that were Ready without it."""
    seconds: float
    """From `kubectl apply` to every node being Ready."""
    traces_before: dict[str, frozenset[str]]
    """What was on each node that an uninstall must leave, see `traces`."""


def missing() -> str:
    """Why it can't be installed; empty if it can."""
    absent = [str(path) for path in (IMAGE, MANIFESTS / "kustomization.yaml") if not path.exists()]
    return f"there is no {', '.join(absent)}: make image" if absent else ""


def install(cluster: Cluster) -> Installed:
    """What the README says, and the image as a registry would bring it."""
    cluster.load(IMAGE)
    before = cluster.ready_nodes()
    traces_before = {node.name: traces(node) for node in cluster.nodes}
    began = time.monotonic()
    cluster.kubectl("apply", "--server-side", "-k", MANIFESTS)
    try:
        cluster.wait_ready()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{trouble(cluster)}") from None
    seconds = time.monotonic() - began
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{AGENT}", "--timeout=120s")
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{CONTROLLER}", "--timeout=120s")
    wait_for("the defaults", lambda: cluster.api.ask("GET", _CONFIGURATION)[0] == HTTPStatus.OK)
    cluster.api.merge(_CONFIGURATION, {"spec": {"reclaimGraceSeconds": GRACE_S, "cooldownSeconds": 1}})
    return Installed(cluster, before, seconds, traces_before)


def rolled(cluster: Cluster, *programs: str) -> None:
    """Until every pod of these programs, such as daemonset/tortie-agent, is of its newest form.

    Raises:
        AssertionError: says what a person would look at.
    """
    for one in programs:
        for _ in range(_ROLLED_TRIES):
            if not cluster.kubectl_said("-n", NAMESPACE, "rollout", "status", one, "--timeout=120s").status:
                break
        else:
            raise AssertionError(f"{one} isn't rolled\n{trouble(cluster)}")


def trouble(cluster: Cluster) -> str:
    """What a person would look at first."""
    looks = (
        ("get", "pods", "-o", "wide"),
        ("describe", "pods"),
        ("logs", f"daemonset/{AGENT}", "--all-containers", "--tail=60"),
        ("logs", f"daemonset/{AGENT}", "--previous", "--tail=60"),
        ("logs", f"deployment/{CONTROLLER}", "--tail=40"),
    )
    said = (cluster.kubectl_said("-n", NAMESPACE, *look) for look in looks)
    return "\n".join((one.out + one.err)[-_SAID_BYTES:] for one in said)


def kubectl_tortie(cluster: Cluster, *arguments: object) -> Said:
    """`kubectl tortie`, as kubectl would call it."""
    command = (BIN / "kubectl-tortie", *arguments, "--kubeconfig", cluster.kubeconfig)
    return cluster.fabric.machine.said(*command, timeout_s=_TOLD_WITHIN_S)


def program_pods(cluster: Cluster, name: str) -> dict[str, Document]:
    """The pods of a program of ours, by node."""
    pods = cluster.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
    return {one["spec"]["nodeName"]: one for one in pods if one["metadata"]["name"].startswith(name)}


# Addresses


def owned(cluster: Cluster) -> dict[str, str]:
    """Who owns which address, as blocks say: namespace/name of the pod."""
    return {
        str(ip_network(block["spec"]["cidr"])[int(ordinal)]): f"{found.get('namespace')}/{found.get('pod')}"
        for block in cluster.api.items(BLOCKS)
        for ordinal, found in block["spec"].get("allocations", {}).items()
    }


def pod_addresses(cluster: Cluster) -> dict[str, str]:
    """Who has which address, as Pods say: namespace/name. Those on a node's own network are left out."""
    return {
        address["ip"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in cluster.api.items("/api/v1/pods")
        if not pod["spec"].get("hostNetwork") and pod["status"].get("phase") in ("Pending", "Running")
        for address in pod["status"].get("podIPs", [])
    }


def settle(cluster: Cluster) -> None:
    """Wait until each address that is owned is a pod's, and no node has a link or a record that is nobody's.

    Raises:
        AssertionError: says what is left.
    """
    left: list[str] = []

    def settled() -> bool:
        left[:] = _left(cluster)
        return not left

    try:
        wait_for("addresses and links settled", settled)
    except AssertionError as error:
        raise AssertionError(f"left behind: {left}: {error}") from None


def _left(cluster: Cluster) -> list[str]:
    owners, addresses = owned(cluster), pod_addresses(cluster)
    found = [f"{address} of {owner}" for address, owner in owners.items() if address not in addresses]
    found += [f"{address} of {owner}: unknown to IPAM" for address, owner in addresses.items() if address not in owners]
    pods: dict[str, int] = {node.name: 0 for node in cluster.nodes}
    for pod in cluster.api.items("/api/v1/pods"):
        if pod["status"].get("podIPs") and not pod["spec"].get("hostNetwork") and pod["spec"]["nodeName"] in pods:
            pods[pod["spec"]["nodeName"]] += 1
    for node in cluster.nodes:
        links = [line for line in node.run("ip", "-o", "link").splitlines() if ": tort" in line]
        if len(links) != pods[node.name]:
            found.append(f"{node.name}: {len(links)} links for {pods[node.name]} pods")
    return found


# What is on a node


def traces(node: Node) -> frozenset[str]:
    """All that a pod network leaves on a node: links, routes, rules, sets, files. Not what is kube-proxy's."""
    lines = [f"link {line.split(': ')[1].partition('@')[0]}" for line in node.run("ip", "-o", "link").splitlines()]
    for family in ("-4", "-6"):
        for shown in (("rule",), ("route", "show", "table", "all")):
            lines += [f"ip {family} {line.strip()}" for line in node.run("ip", family, *shown).splitlines()]
    for program in ("iptables", "ip6tables"):
        for line in node.run(f"{program}-save").splitlines():
            if line.startswith(("-", ":")) and not any(word in line for word in _NOT_OURS):
                lines.append(f"{program} {line.partition(' [')[0]}")
    lines += [f"set {name}" for name in node.run("ipset", "list", "-n").split()]
    folders = ("/opt/cni/bin", "/etc/cni/net.d", "/run/tortie", "/var/lib/tortie")
    present = [folder for folder in folders if node.machine.at(folder).exists()]
    lines += [f"file {path}" for path in node.run("find", *present).splitlines()]
    return frozenset(line for line in lines if not _passing(line))


def _passing(line: str) -> bool:
    """What the kernel makes and takes away of itself."""
    return "ff00::/8" in line or "fe80::" in line or "multicast" in line
