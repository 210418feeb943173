"""Plays kubelet and namespace controller for the pods of a connectivity test, on an API server that has neither.

Servers become Ready with an address, pods that ask end with answers that `verdict` gives, and a deleted namespace goes.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ctl.connectivity.objects import MARK
from tests.kube.apiserver import ApiServer

Verdict = Callable[[dict[str, Any], str, str], str]
"""What a pod hears, by the pod, the address and what the plan expects."""
_LOOK_S = 0.1
_JOIN_S = 30


def as_expected(_: dict[str, Any], __: str, expected: str) -> str:
    """A network that works."""
    return expected


def always_open(*_: object) -> str:
    """A network without policies."""
    return "open"


class Kubelet:
    """Of every node; `playing` runs one."""

    def __init__(self, server: ApiServer, verdict: Verdict, waits: str = "") -> None:
        self._server = server
        self._verdict = verdict
        self._waits = waits
        """Why no container ever starts; empty: they do."""
        self._given = 0
        self.seen: list[str] = []
        """Namespaces of tests."""

    def look(self) -> None:
        """Do what is to be done now."""
        _, found = self._server.ask("GET", f"/api/v1/namespaces?labelSelector={MARK}")
        for one in found["items"]:
            name = one["metadata"]["name"]
            if name not in self.seen:
                self.seen.append(name)
            if one["metadata"].get("deletionTimestamp"):
                self._finish(name, one)
                continue
            for pod in self._server.ask("GET", f"/api/v1/namespaces/{name}/pods")[1]["items"]:
                if pod["status"].get("phase") == "Pending" and not pod["status"].get("containerStatuses"):
                    self._start(pod)

    def _start(self, pod: dict[str, Any]) -> None:
        words = pod["spec"]["containers"][0]["command"]
        state: dict[str, Any]
        status: dict[str, Any]
        if self._waits:
            state = {"waiting": {"reason": self._waits, "message": "no such image"}}
            status = {"phase": "Pending", "containerStatuses": [_container(state, ready=False)]}
        elif "serve" in words:
            self._given += 1
            ip = f"10.1.0.{self._given}"
            ready = [{"type": "Ready", "status": "True"}]
            state = {"running": {}}
            status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}
            status["containerStatuses"] = [_container(state, ready=True)]
        else:
            answers = [[self._verdict(pod, address, expected), 3] for address, _, expected in json.loads(words[-1])]
            state = {"terminated": {"exitCode": 0, "message": json.dumps(answers)}}
            status = {"phase": "Succeeded", "containerStatuses": [_container(state, ready=False)]}
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        self._server.ask("PUT", path, {**pod, "status": status})

    def _finish(self, name: str, namespace: dict[str, Any]) -> None:
        for plural in ("pods", "services"):
            for one in self._server.ask("GET", f"/api/v1/namespaces/{name}/{plural}")[1]["items"]:
                path = f"/api/v1/namespaces/{name}/{plural}/{one['metadata']['name']}?gracePeriodSeconds=0"
                self._server.ask("DELETE", path)
        self._server.ask("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies")
        self._server.ask("PUT", f"/api/v1/namespaces/{name}/finalize", {**namespace, "spec": {"finalizers": []}})


@contextmanager
def playing(server: ApiServer, verdict: Verdict = as_expected, waits: str = "") -> Iterator[Kubelet]:
    """One that works until the block ends."""
    kubelet, stop = Kubelet(server, verdict, waits), threading.Event()

    def work() -> None:
        while not stop.is_set():
            kubelet.look()
            time.sleep(_LOOK_S)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield kubelet
    finally:
        stop.set()
        thread.join(_JOIN_S)


def _container(state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    return {"name": "main", "ready": ready, "state": state, "image": "i", "imageID": "", "restartCount": 0}
