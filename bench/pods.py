"""A Pod as a Deployment's web server has it: about four kilobytes once the API server has told who manages what."""

import msgspec

NAMESPACE = "shop"
PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"
LAST = "bench.tortie.dev/last"
"""An annotation on the Pod of the last event."""
_NODES = 100
_BEGAN = "2025-01-01T00:00:00Z"


def body(number: int) -> bytes:
    """What creates it; scheduled, so that nothing waits for a scheduler."""
    name = _name(number)
    labels = {"app": f"web-{number % 200}", "pod-template-hash": "5d4f8c7b9"}
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": name.rpartition("-")[0],
        "controller": True,
        "uid": f"0c5ff0a8-6d0e-4d0b-9d1e-{number:012x}",
        "blockOwnerDeletion": True,
    }
    annotations = {
        "checksum/config": f"{number:064x}",
        "prometheus.io/scrape": "true",
    }
    metadata = {"name": name, "labels": labels, "annotations": annotations, "ownerReferences": [owner]}
    spec = {
        "nodeName": f"node-{number % _NODES}",
        "serviceAccountName": "web",
        "containers": [_container("web", 8080)],
        "volumes": [
            {"name": "config", "configMap": {"name": "web-config"}},
        ],
    }
    return msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def patch(number: int, turn: int, *, last: bool = False) -> tuple[str, bytes]:
    """What its node's kubelet says of it once it runs: path and body; another one each turn."""
    address = f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _BEGAN,
        "hostIP": f"192.0.2.{number % _NODES}",
        "hostIPs": [{"ip": f"192.0.2.{number % _NODES}"}],
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": _BEGAN} for kind in kinds],
        "containerStatuses": [_running("web", number)],
    }
    metadata = {"annotations": {"bench.tortie.dev/turn": str(turn), **({LAST: "true"} if last else {})}}
    return f"{PATH}/{_name(number)}/status", msgspec.json.encode({"metadata": metadata, "status": status})


def _name(number: int) -> str:
    return f"web-{number % 200}-5d4f8c7b9-{number:05x}"


def _container(name: str, port: int) -> dict[str, object]:
    return {
        "name": name,
        "image": f"registry.example.com/shop/{name}:1.4.2",
        "ports": [{"containerPort": port, "name": name}],
        "env": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "DATABASE", "value": "db.shop.svc.cluster.local:5432"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/web", "readOnly": True}],
    }


def _running(name: str, number: int) -> dict[str, object]:
    image = f"registry.example.com/shop/{name}"
    return {
        "name": name,
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": f"{image}:1.4.2",
        "imageID": f"{image}@sha256:{number:064x}",
        "containerID": f"containerd://{number:064x}",
        "state": {"running": {"startedAt": _BEGAN}},
    }
