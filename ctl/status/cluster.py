"""What Kubernetes says of its nodes and of our agents' pods."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ctl.installation import HTTP_PORT, NodeSeen, PodSeen, agents, condition, daemonset, why
from ctl.status import skew
from ctl.status.seen import Agent, Machine, Skew
from datastore.errors import Forbidden, StoreError
from datastore.kubernetes.client import Answer
from datastore.kubernetes.requests import Requests

_SAID = 300
"""Characters of an agent's own reasons."""
_ASKED = 100
"""Agents that are ready, and asked nevertheless what somebody should look at."""
_WARNING = "warning: "


@dataclass(frozen=True, slots=True)
class Cluster:
    """One look at it."""

    machines: Mapping[str, Machine]
    agents: Mapping[str, Agent] = field(default_factory=dict)
    daemonset: bool = False
    skews: tuple[Skew, ...] = ()
    notes: tuple[str, ...] = ()


async def look(requests: Requests, namespace: str) -> Cluster:
    """Nodes, and agents' pods as far as one may read them.

    Raises:
        StoreError: the API can't be read.
    """
    found = await requests.items("/api/v1/nodes", NodeSeen)
    machines = {one.metadata.name: _machine(one) for one in found}
    skews = await skew.of_definitions(requests)
    try:
        made = await daemonset(requests, namespace)
        pods = await agents(requests, namespace, made) if made is not None else []
        skews += await skew.of_images(requests, namespace, made, pods) if made is not None else []
    except Forbidden as error:
        return Cluster(machines, skews=tuple(skews), notes=(f"agents' pods can't be read: {error}",))
    if made is None:
        note = f"there is no DaemonSet tortie-agent in {namespace}: agents aren't asked"
        return Cluster(machines, skews=tuple(skews), notes=(note,))
    said = await asyncio.gather(*(_agent(requests, pod, asked=at < _ASKED) for at, pod in enumerate(pods)))
    notes = (f"of {len(pods)} agents {_ASKED} were asked for warnings",) if len(pods) > _ASKED else ()
    return Cluster(machines, _by_node(pods, said), daemonset=True, skews=tuple(skews), notes=notes)


def _by_node(pods: list[PodSeen], said: list[Agent]) -> dict[str, Agent]:
    """Of two pods of a node, while one is replaced, the one that is ready."""
    pairs = sorted(zip(pods, said, strict=True), key=lambda pair: pair[1].ready)
    return {pod.spec.node_name: agent for pod, agent in pairs if pod.spec.node_name}


def _machine(node: NodeSeen) -> Machine:
    ready = condition(node.status.conditions, "Ready")
    network = condition(node.status.conditions, "NetworkUnavailable")
    return Machine(
        ready=ready.status == "True",
        reason=ready.message or ready.reason or "its kubelet hasn't said so",
        no_network=(network.message or network.reason or "without a reason") if network.status == "True" else "",
    )


async def _agent(requests: Requests, pod: PodSeen, *, asked: bool) -> Agent:
    name, namespace = pod.metadata.name, pod.metadata.namespace
    look = f"kubectl -n {namespace} logs {name}"
    if pod.ready:
        return Agent(ready=True, look=look, warnings=await _warnings(requests, pod) if asked else ())
    if pod.status.phase != "Running":
        return Agent(ready=False, reason=why(pod), look=f"kubectl -n {namespace} describe pod {name}")
    reason = await _own_reason(requests, pod)
    return Agent(ready=False, reason=reason or why(pod), look=look)


async def _own_reason(requests: Requests, pod: PodSeen) -> str:
    """What the agent says at /readyz, asked through the API server; empty where that can't be done."""
    answer = await _readyz(requests, pod)
    text = " ".join(answer.body[: _SAID * 4].decode(errors="replace").split())[:_SAID] if answer is not None else ""
    return "" if text.startswith("{") or answer is None or answer.is_ok else text


async def _warnings(requests: Requests, pod: PodSeen) -> tuple[str, ...]:
    """What a ready agent says there that somebody should look at."""
    answer = await _readyz(requests, pod)
    if answer is None or not answer.is_ok:
        return ()
    lines = answer.body.decode(errors="replace").splitlines()
    return tuple(line.removeprefix(_WARNING) for line in lines if line.startswith(_WARNING))


async def _readyz(requests: Requests, pod: PodSeen) -> Answer | None:
    where = f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}:{HTTP_PORT}/proxy/readyz"
    try:
        return await requests.answer(where)
    except StoreError:
        return None
