"""The Kubernetes objects of a connectivity test; all lie in one namespace, so that deleting it deletes everything."""

import json
from collections.abc import Sequence
from typing import Any

from ctl.connectivity.plan import HOST, PORT, Asker

MARK = "tortie.dev/connectivity-test"
"""Label of the namespaces."""
SERVICE = "server"
_SERVERS = {"app": "server"}
_PROGRAM = "tortiectl"
_USER = 65532
_ANSWER = "/dev/termination-log"
"""Kubernetes shows its content in the pod's status: no log needs to be read, no pod entered."""

Object = dict[str, Any]


def namespace(name: str) -> Object:
    """Where everything is; pods in the node's network need the label."""
    labels = {MARK: "true", "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def server(name: str, node: str, image: str) -> Object:
    """A pod that answers, ready once it listens."""
    words = ["connectivity", "serve", f"{PORT}/TCP", f"{PORT}/UDP"]
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    return _pod(name, _SERVERS, node, image, words, {"readinessProbe": probe}, {})


def asker(name: str, one: Asker, image: str, patience_s: float) -> Object:
    """A pod that asks, and ends."""
    asked = [[probe.address, probe.protocol, probe.expected] for probe in one.probes]
    words = ["connectivity", "probe", "--patience", f"{patience_s:g}", "--answer", _ANSWER, json.dumps(asked)]
    network = {"hostNetwork": True} if one.role == HOST else {}
    spec = {"restartPolicy": "Never", **network}
    return _pod(name, {"app": "asker", "role": one.role}, one.node, image, words, {}, spec)


def service() -> Object:
    """Before every server."""
    ports = [{"name": "tcp", "port": PORT, "protocol": "TCP"}]
    spec = {"selector": _SERVERS, "ports": ports, "ipFamilyPolicy": "PreferDualStack"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": spec}


def default_deny() -> Object:
    """Nothing reaches the servers."""
    return _policy("default-deny", [])


def allow_clients() -> Object:
    """Who has the label role=client does."""
    return _policy("allow-clients", [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}])


def _policy(name: str, ingress: Sequence[Object]) -> Object:
    spec = {"podSelector": {"matchLabels": _SERVERS}, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def _pod(
    name: str, labels: dict[str, str], node: str, image: str, words: list[str], container: Object, spec: Object
) -> Object:
    """A pod on a node of our choice, without any right."""
    secure = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    one = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [_PROGRAM, *words],
        "terminationMessagePath": _ANSWER,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": secure,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            # Placed by us: a scheduler would let a pod wait that fits nowhere.
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{**one, **container}],
            **spec,
        },
    }
