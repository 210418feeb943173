"""The nodes' agents: started as their users would start them, and asked over their control sockets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent import asking
from datastore.resources.value import Resource
from kernel.process import Process
from lab.holder import enter
from lab.state import Folder, LabError, LabNode, LabState, ProcessRecord

READY_S = 30.0
"""How long an agent may take to serve: about a second, more on a loaded machine."""
APPLIED_S = 10.0
"""How long an agent may take to apply a change before a command gives up waiting."""
TIMED_OUT = 5
"""The exit status that says so."""
_END_S = 25.0
"""How long an agent may take to end: ADDs that run are waited for, then undone."""
_REFRESH_S = 5


@dataclass(frozen=True, slots=True)
class Awaited:
    """An object whose effect is waited for; an empty revision waits until it is gone."""

    kind: str
    namespace: str
    name: str
    revision: str = ""

    @classmethod
    def of(cls, resource: Resource) -> "Awaited":
        """An object as it was just written."""
        return cls(resource.KIND.full_name, resource.namespace, resource.name, resource.revision)

    @classmethod
    def gone_of(cls, resource: Resource) -> "Awaited":
        """An object that was just deleted."""
        return cls(resource.KIND.full_name, resource.namespace, resource.name)


def start_all(folder: Folder, state: LabState) -> LabState:
    """Start every node's agent and wait until all of them serve.

    Raises:
        LabError: one doesn't; says what it said last.
    """
    nodes = tuple(_started(folder, state, node) for node in state.nodes)
    state = msgspec.structs.replace(state, nodes=nodes)
    folder.write(state)
    for node in nodes:
        _wait(folder, node)
    return state


def start(folder: Folder, state: LabState, name: str) -> LabState:
    """Start one node's agent again, ended first if it still runs, and wait until it serves.

    Raises:
        LabError: it doesn't.
    """
    before = state.node(name).agent
    if before is not None:
        _end(before)
    node = _started(folder, state, state.node(name))
    nodes = tuple(node if one.name == name else one for one in state.nodes)
    state = msgspec.structs.replace(state, nodes=nodes)
    folder.write(state)
    _wait(folder, node)
    return state


def status(folder: Folder, name: str) -> Mapping[str, Any] | None:
    """What a node's agent says of itself; None if none answers."""
    return asking.status(folder.control(name))


def wait_applied(folder: Folder, state: LabState, awaited: Iterable[Awaited]) -> None:
    """Return when every running agent has applied these objects.

    Raises:
        LabError: one hasn't within ten seconds; status 5.
    """
    wanted, limit = list(awaited), time.monotonic() + APPLIED_S
    running = [node for node in state.nodes if node.agent is not None and node.agent.process.alive]
    questions = [(node, one) for node in running for one in wanted]
    with ThreadPoolExecutor(max_workers=len(running) or 1) as pool:
        answers = list(pool.map(lambda one: _is_applied(folder, one[0], one[1], limit), questions))
    late = {
        node.name
        for (node, _), applied in zip(questions, answers, strict=True)
        if not applied and node.agent is not None and node.agent.process.alive
    }
    if late:
        hint = f"look at {folder.log(min(late))}"
        raise LabError(f"not applied within {APPLIED_S:g} s on {', '.join(sorted(late))}", hint, TIMED_OUT)


def _is_applied(folder: Folder, node: LabNode, wanted: Awaited, limit: float) -> bool:
    left_s = max(0.1, limit - time.monotonic())
    try:
        return bool(asking.ask(folder.control(node.name), {"applied": asdict(wanted)}, left_s).get("applied"))
    except (OSError, ValueError):
        return False


def _end(agent: ProcessRecord) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        agent.process.end(number)
        limit = time.monotonic() + _END_S
        while agent.process.alive and time.monotonic() < limit:
            time.sleep(0.02)


def _started(folder: Folder, state: LabState, node: LabNode) -> LabNode:
    folder.control(node.name).unlink(missing_ok=True)
    addresses = [word for address in node.addresses for word in ("--node-ip", address)]
    program = Path(sys.executable).with_name("tortie-agent")
    with folder.log(node.name).open("ab") as log:
        process = subprocess.Popen(
            (
                *enter(node.keeper, rootless=state.rootless),
                *(str(program), "--node", node.name, "--datastore", folder.datastore),
                *("--state", str(folder.of_node(node.name)), "--machine-id", node.machine),
                # On Kubernetes, too, a lab's pods are no Pods.
                *("--refresh", str(_REFRESH_S), "--endpoints", "workloadendpoints", *addresses),
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
        )
    process.returncode = 0  # it outlives this process on purpose
    found = Process.of(process.pid)
    return msgspec.structs.replace(node, agent=ProcessRecord(found.pid, found.start))


def _wait(folder: Folder, node: LabNode) -> None:
    limit = time.monotonic() + READY_S
    while time.monotonic() < limit:
        if node.agent is None or not node.agent.process.alive:
            break
        said = status(folder, node.name)
        if said is not None and said.get("ready"):
            return
        time.sleep(0.05)
    log = folder.log(node.name).read_text(errors="replace").splitlines()
    lines = [line.strip(" |+-") for line in log if line.strip(" |+-")]
    raise LabError(f"the agent of {node.name} doesn't serve: {lines[-1] if lines else 'it said nothing'}")
