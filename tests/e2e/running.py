"""Pods that run, and what they reach: requests are made in a pod's network by a thread of the test.

`kubectl exec` would show the same and take half a second of a processor for each; a test or two do it that way too.
"""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from lab.probe import probe
from tests.e2e.documents import PORT
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.machine import Machine
from tests.kube.whole.node import Node

_PATIENCE_S = 3.0
_SETTLED_S = 20.0
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Place:
    """A network from which things are reached: a machine's, or that of a process in it."""

    machine: Machine
    pid: int = 1

    def fetch(self, address: str, port: int = PORT, path: str = "/hostname") -> str:
        """What a web server answers.

        Raises:
            OSError: nothing, or that it is refused.
        """
        host = f"[{address}]" if ":" in address else address
        return self.machine.inside(lambda: _get(f"http://{host}:{port}{path}"), self.pid)

    def hears(self, address: str, port: int = PORT, protocol: str = "TCP", seconds: float = 1.0) -> str:
        """What a connection meets: open, closed (packets pass) or silent. By UDP agnhost is asked."""
        if protocol == "UDP":
            return self.machine.inside(lambda: _echo(address, port, seconds), self.pid)
        return self.machine.inside(lambda: probe(address, port, protocol, seconds), self.pid)


@dataclass(frozen=True, slots=True)
class Running:
    """A pod that runs."""

    name: str
    node: Node
    address: str
    place: Place
    document: Document

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of each family that it has, IPv4 first."""
        return tuple(str(one["ip"]) for one in self.document["status"]["podIPs"])

    @property
    def container(self) -> str:
        """The id of its first container."""
        return container_id(self.document)


def running(cluster: Cluster, document: Document) -> Running:
    """A pod as the API tells it."""
    node = cluster.node(str(document["spec"]["nodeName"]))
    place = Place(node.machine, node.task(container_id(document)))
    return Running(document["metadata"]["name"], node, document["status"]["podIP"], place, document)


def container_id(document: Document) -> str:
    return str(document["status"]["containerStatuses"][0]["containerID"])


def asker(said: str) -> str:
    """The client's address, of what agnhost says of it: ADDRESS:PORT."""
    return said.rpartition(":")[0].strip("[]")


def all_running(cluster: Cluster, selector: str, count: int, namespace: str = "default") -> list[Running]:
    """The pods of a selector, once they are ready."""
    return [running(cluster, document) for document in cluster.wait_pods(selector, count, namespace)]


def outside(cluster: Cluster) -> Place:
    """The world outside of the cluster, on the nodes' network."""
    return Place(cluster.fabric.machine)


def eventually(what: str, look: Callable[[], bool], seconds: float = _SETTLED_S) -> None:
    """What becomes so, after others have taken notice of a change.

    Raises:
        AssertionError: it doesn't within the time.
    """
    limit = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < limit, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def reaches(place: Place, address: str, port: int = PORT) -> bool:
    """Whether a web server answers."""
    try:
        return bool(place.fetch(address, port))
    except OSError:
        return False


def _echo(address: str, port: int, seconds: float) -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(seconds)
        try:
            asking.connect((address, port))
            asking.send(b"echo tortie")
            return "open" if asking.recv(100).strip() == b"tortie" else "silent"
        except ConnectionRefusedError:
            return "closed"
        except OSError:
            return "silent"


def _get(url: str) -> str:
    try:
        with _NO_PROXY.open(url, timeout=_PATIENCE_S) as answer:
            return str(answer.read().decode()).strip()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error}") from error
