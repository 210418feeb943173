"""A Deployment of sixty pods that comes and goes, timed."""

import time

from tests.e2e.documents import apply, busybox, deployment
from tests.e2e.running import eventually
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster

SIXTY = 60
NAME = "sixty"
SELECTOR = f"app={NAME}"
_PATH = f"/apis/apps/v1/namespaces/default/deployments/{NAME}"
_GONE_WITHIN_S = 90.0


def make(cluster: Cluster) -> None:
    """The Deployment, without a pod yet."""
    apply(cluster, deployment(NAME, 0, busybox()))


def scale(cluster: Cluster, replicas: int) -> None:
    cluster.api.merge(_PATH, {"spec": {"replicas": replicas}})


def up(cluster: Cluster) -> tuple[list[Document], float]:
    """All of them, once they are ready, and how many seconds that took."""
    began = time.monotonic()
    scale(cluster, SIXTY)
    return cluster.wait_pods(SELECTOR, SIXTY), time.monotonic() - began


def until_ready(cluster: Cluster, count: int) -> None:
    """Until at least that many pods are ready."""
    path = f"{_PATH}/status"
    eventually(
        f"{count} pods ready", lambda: cluster.api.get(path)["status"].get("readyReplicas", 0) >= count, _GONE_WITHIN_S
    )


def until_gone(cluster: Cluster, left: int = 0) -> None:
    """Until so few pods are left, ending ones included."""
    eventually(f"{left} pods left", lambda: len(cluster.pods(SELECTOR)) <= left, _GONE_WITHIN_S)
