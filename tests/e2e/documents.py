"""What tests put into a cluster: documents for `kubectl apply`."""

import json
from collections.abc import Mapping, Sequence

from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.images import AGNHOST_IMAGE, BUSYBOX

PORT = 8080
_HTTPD = f"echo $HOSTNAME > /tmp/hostname; exec httpd -f -p {PORT} -h /tmp"


def apply(cluster: Cluster, *documents: Mapping[str, object]) -> None:
    """`kubectl apply` of all of them in one go."""
    everything = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(everything))


def remove(cluster: Cluster, *documents: Mapping[str, object]) -> None:
    """`kubectl delete` of them, waited for."""
    everything = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=json.dumps(everything))


def namespace(name: str, **labels: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def agnhost(*, host_port: int = 0, probed: bool = False) -> Document:
    """A pod's spec: agnhost's server, which tells its own name and its clients' addresses, by HTTP and UDP."""
    port: Document = {"containerPort": PORT}
    container: Document = {
        "name": "server",
        "image": AGNHOST_IMAGE,
        "args": ["netexec", f"--http-port={PORT}", f"--udp-port={PORT}"],
        "ports": [port],
    }
    if host_port:
        port["hostPort"] = host_port
    if probed:
        container["readinessProbe"] = _probe("/hostname")
    return {"terminationGracePeriodSeconds": 1, "containers": [container]}


def busybox() -> Document:
    """A pod's spec: a server that is light enough for there to be sixty, ready once the kubelet has reached it."""
    container = {
        "name": "server",
        "image": BUSYBOX,
        "command": ["/bin/sh", "-c", _HTTPD],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": _probe("/hostname"),
    }
    return {"terminationGracePeriodSeconds": 0, "containers": [container]}


def _probe(path: str) -> Document:
    return {"httpGet": {"path": path, "port": PORT}, "periodSeconds": 1, "timeoutSeconds": 2}


def pod(name: str, spec: Document, *, node: str = "", in_namespace: str = "default", **labels: str) -> Document:
    """A pod; `node` is where it is to run."""
    placed = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    metadata = {"name": name, "namespace": in_namespace, "labels": {"app": name, **labels}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, **placed}}


def deployment(name: str, replicas: int, spec: Document, *, in_namespace: str = "default") -> Document:
    """Pods with the label app=NAME, spread evenly over the nodes."""
    selector = {"matchLabels": {"app": name}}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": selector,
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {**spec, "topologySpreadConstraints": [spread]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": in_namespace},
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }


def service(name: str, *, node_port: int = 0, in_namespace: str = "default", local: bool = False) -> Document:
    """Port 80 of a cluster address in each family, for the pods with app=NAME; perhaps a port of every node."""
    port: Document = {"port": 80, "targetPort": PORT}
    spec: Document = {"selector": {"app": name}, "ports": [port], "ipFamilyPolicy": "PreferDualStack"}
    if node_port:
        port["nodePort"] = node_port
        spec |= {"type": "NodePort", "externalTrafficPolicy": "Local" if local else "Cluster"}
    metadata = {"name": name, "namespace": in_namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def policy(
    name: str,
    selected: Mapping[str, str],
    *,
    in_namespace: str = "default",
    ingress: Sequence[Document] | None = None,
    egress: Sequence[Document] | None = None,
) -> Document:
    """A NetworkPolicy for the pods with these labels; a direction with no rule lets nothing through."""
    spec: Document = {"podSelector": {"matchLabels": dict(selected)}, "policyTypes": []}
    for direction, rules in (("Ingress", ingress), ("Egress", egress)):
        if rules is not None:
            spec["policyTypes"].append(direction)
            spec[direction.lower()] = list(rules)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": in_namespace},
        "spec": spec,
    }
