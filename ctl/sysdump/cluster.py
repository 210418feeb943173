"""What Kubernetes has that helps: our objects, nodes, events, our pods with their logs. Secrets aren't asked for."""

import asyncio
from collections.abc import Sequence

import msgspec

from ctl.installation import HTTP_PORT, Container, ContainerStatus, PodSeen
from ctl.sysdump.parts import Parts
from datastore.errors import StoreError
from datastore.kubernetes.requests import Requests
from datastore.resources import kinds
from datastore.resources.value import Resource

_OF_THE_CLUSTER = (
    ("version", "/version"),
    ("nodes", "/api/v1/nodes"),
    ("namespaces", "/api/v1/namespaces"),
    ("networkpolicies.networking.k8s.io", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("customresourcedefinitions-of-ours", "/apis/tortie.dev/v1"),
)
_OF_OURS = (
    ("daemonsets", "/apis/apps/v1/namespaces/{}/daemonsets"),
    ("deployments", "/apis/apps/v1/namespaces/{}/deployments"),
    ("pods", "/api/v1/namespaces/{}/pods"),
    ("configmaps", "/api/v1/namespaces/{}/configmaps"),
    ("leases", "/apis/coordination.k8s.io/v1/namespaces/{}/leases"),
)
_EVENTS_MOST = "2000"
_LINES = "5000"
"""Of each container's log."""
_AT_ONCE = 8
_GROUP = "tortie.dev"


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    class About(msgspec.Struct, frozen=True):
        """core/v1 ObjectReference."""

        kind: str = ""
        namespace: str = ""
        name: str = ""

    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    involved_object: About = About()

    @property
    def time(self) -> str:
        """When it was last so."""
        return self.last_timestamp or self.event_time or ""

    @property
    def line(self) -> str:
        """For people."""
        about = self.involved_object
        where = f"{about.namespace}/{about.name}" if about.namespace else about.name
        times = f" ({self.count} times)" if (self.count or 1) > 1 else ""
        return f"{self.time} {self.type} {about.kind} {where}: {self.reason}: {self.message}{times}"


async def collect(requests: Requests, namespace: str, parts: Parts) -> list[str]:
    """Everything that may be read; gives the newest warnings of the cluster's events."""
    ours = [(kind.KIND.full_name, f"/apis/{kind.KIND.api_version}/{kind.KIND.plural}") for kind in _kinds_of_ours()]
    for name, path in (*_OF_THE_CLUSTER, *ours):
        await _keep(requests, f"objects/{name}.json", path, parts)
    for name, path in _OF_OURS:
        await _keep(requests, f"{namespace}/{name}.json", path.format(namespace), parts)
    pods = await _pods(requests, parts)
    limit = asyncio.Semaphore(_AT_ONCE)
    own = [pod for pod in pods if pod.metadata.namespace == namespace]
    await asyncio.gather(*(_of_pod(requests, pod, parts, limit) for pod in own))
    return await _events(requests, parts)


def _kinds_of_ours() -> list[type[Resource]]:
    return [kind for kind in kinds.KINDS if kind.KIND.group == _GROUP]


async def _keep(requests: Requests, name: str, path: str, parts: Parts) -> None:
    try:
        answer = await requests.answer(path)
    except StoreError as error:
        parts.failed(path, error)
        return
    parts.body(name, answer.body) if answer.is_ok else parts.failed(path, f"the API server says {answer.code}")


async def _pods(requests: Requests, parts: Parts) -> list[PodSeen]:
    """Every pod of the cluster, one line each."""
    try:
        pods = await requests.items("/api/v1/pods", PodSeen)
    except StoreError as error:
        parts.failed("pods", error)
        return []
    lines = [
        f"{pod.metadata.namespace}/{pod.metadata.name} {pod.spec.node_name or '-'} {pod.status.phase or '-'} "
        f"{','.join(one.ip for one in pod.status.pod_ips) or '-'}"
        for pod in pods
    ]
    parts.text("objects/pods.txt", "\n".join([*lines, ""]))
    return pods


async def _of_pod(requests: Requests, pod: PodSeen, parts: Parts, limit: asyncio.Semaphore) -> None:
    namespace, name = pod.metadata.namespace, pod.metadata.name
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    states = {one.name: one for one in (*pod.status.init_container_statuses, *pod.status.container_statuses)}
    containers: Sequence[Container] = (*pod.spec.init_containers, *pod.spec.containers)
    async with limit:
        for one in containers:
            await _log(requests, f"{path}/log", f"logs/{name}/{one.name}", one.name, parts)
            if states.get(one.name, ContainerStatus()).restart_count:
                where = f"logs/{name}/{one.name}.previous"
                await _log(requests, f"{path}/log", where, one.name, parts, previous=True)
        for what in ("readyz", "metrics") if name.startswith("tortie-agent") else ():
            await _text(requests, f"{path}:{HTTP_PORT}/proxy/{what}", f"agents/{name}.{what}.txt", parts)


async def _log(
    requests: Requests, path: str, where: str, container: str, parts: Parts, *, previous: bool = False
) -> None:
    query = {"container": container, "tailLines": _LINES, "timestamps": "true"}
    await _text(requests, path, f"{where}.log", parts, {**query, **({"previous": "true"} if previous else {})})


async def _text(requests: Requests, path: str, where: str, parts: Parts, query: dict[str, str] | None = None) -> None:
    try:
        answer = await requests.answer(path, query)
    except StoreError as error:
        parts.failed(where, error)
        return
    said = answer.body.decode(errors="replace")
    parts.text(where, said) if answer.is_ok or "readyz" in where else parts.failed(where, said[:200])


async def _events(requests: Requests, parts: Parts) -> list[str]:
    try:
        answer = await requests.read("/api/v1/events", _Events, {"limit": _EVENTS_MOST})
    except StoreError as error:
        parts.failed("events", error)
        return []
    events = sorted(answer.items if answer is not None else (), key=lambda one: one.time)
    parts.text("events.txt", "\n".join([*(one.line for one in events), ""]))
    return [one.line for one in events if one.type == "Warning"]


class _Events(msgspec.Struct, frozen=True):
    items: Sequence[_Event] = ()
