"""Agents that answer on this machine: a lab's, or this host's own."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent import asking
from agent.options import DEFAULT_STATE
from ctl.location import Location
from ctl.status.seen import Agent
from datastore.resources.networkpolicy import NetworkPolicy
from lab.state import Folder, LabState

_ANSWER_S = 3.0
_POLICIES = 100
"""At most so many are asked for; an agent that has these has the others soon."""


def agents(location: Location, policies: Sequence[NetworkPolicy], state: Path | None) -> Mapping[str, Agent]:
    """By node; blocks while they answer."""
    lab = location.lab()
    if lab is not None and location.folder is not None:
        return _of_lab(location.folder, lab, policies)
    control = (state or DEFAULT_STATE) / "agent.sock"
    said = asking.status(control)
    if said is None or said.get("datastore") != location.url:
        return {}
    return {str(said["node"]): _agent(control, policies, "journalctl -u tortie-agent")}


def _of_lab(folder: Folder, lab: LabState, policies: Sequence[NetworkPolicy]) -> Mapping[str, Agent]:
    names = [node.name for node in lab.nodes]
    with ThreadPoolExecutor(max_workers=len(names) or 1) as pool:
        found = pool.map(lambda name: _agent(folder.control(name), policies, f"tortiectl lab restart {name}"), names)
        return dict(zip(names, found, strict=True))


def _agent(control: Path, policies: Sequence[NetworkPolicy], look: str) -> Agent:
    said = asking.status(control)
    if said is None:
        return Agent(ready=False, reason="it doesn't run, or doesn't answer", look=look)
    if not said.get("ready"):
        failures = "; ".join(said.get("failures", []))
        return Agent(ready=False, reason=str(said.get("reason") or failures), look=look)
    behind = tuple(one.key for one in policies[:_POLICIES] if not _has(control, one))
    return Agent(ready=True, look=look, behind=behind)


def _has(control: Path, policy: NetworkPolicy) -> bool:
    wanted = {
        "kind": policy.KIND.full_name,
        "namespace": policy.namespace,
        "name": policy.name,
        "revision": policy.revision,
    }
    try:
        return bool(asking.ask(control, {"applied": wanted}, _ANSWER_S).get("applied"))
    except (OSError, ValueError):
        return False
