"""What is killed in the middle of things, and started again as systemd or the kubelet would."""

import time
from collections.abc import Callable, Mapping

from tests.e2e import tortie
from tests.e2e.running import container_id
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.machine import Program

_DOWN_S = 1.0
_OK = 200


def kubelet(cluster: Cluster) -> None:
    _again(cluster.node(1).kubelet)


def containerd(cluster: Cluster) -> None:
    _again(cluster.node(2).containerd)


def agent(cluster: Cluster) -> None:
    """By SIGKILL; the kubelet starts it again."""
    killed = tortie.program_pods(cluster, tortie.AGENT)["node-3"]
    if killed["status"]["containerStatuses"][0].get("state", {}).get("running"):
        cluster.node(3).kill_container(container_id(killed))


def apiserver(cluster: Cluster) -> None:
    """It is ready a moment before it serves custom resources."""
    _again(cluster.fabric.apiserver)
    cluster.fabric.apiserver.wait(lambda: cluster.api.ready() and cluster.api.ask("GET", tortie.BLOCKS)[0] == _OK)


KILLED: Mapping[str, Callable[[Cluster], None]] = {
    "kubelet": kubelet,
    "containerd": containerd,
    "agent": agent,
    "apiserver": apiserver,
}


def _again(program: Program) -> None:
    program.kill()
    time.sleep(_DOWN_S)
    program.start()
