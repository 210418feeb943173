"""What is wrong with what was seen, each with the command to run next; a value in, values out."""

from collections.abc import Iterator
from dataclasses import dataclass

from ctl.status.seen import Seen, SeenNode, SeenPool

_NEARLY_FULL = 80
"""Percent of a pool."""
_SILENT_S = 60.0
"""A leader renews every 4 s; clocks differ by seconds."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to know; `wrong` if pods suffer from it or will."""

    what: str
    next: str
    wrong: bool = True


def remarks(seen: Seen) -> list[Remark]:
    """Everything to be said, what is wrong first."""
    found = [*_skews(seen), *_nodes(seen), *_pools(seen), *_controller(seen)]
    return sorted(found, key=lambda one: not one.wrong)


def _skews(seen: Seen) -> Iterator[Remark]:
    for one in seen.installation.skews if seen.installation is not None else ():
        yield Remark(one.what, one.next, wrong=one.wrong)


def _nodes(seen: Seen) -> Iterator[Remark]:
    if not seen.nodes:
        yield Remark("there is no node", _first_step(seen))
    for node in seen.nodes:
        yield from _machine(seen, node)
        yield from _agent(seen, node)


def _machine(seen: Seen, node: SeenNode) -> Iterator[Remark]:
    if seen.installation is None:
        return
    describe = f"kubectl describe node {node.name}"
    if node.machine is None:
        yield Remark(
            f"node {node.name} is no Node of Kubernetes any more, and the controller hasn't taken it away yet",
            f"kubectl delete nodes.tortie.dev {node.name}",
            wrong=False,
        )
        return
    if not node.machine.ready:
        yield Remark(f"node {node.name} isn't Ready: {node.machine.reason}", describe)
    if node.machine.no_network:
        yield Remark(f"node {node.name} says NetworkUnavailable: {node.machine.no_network}", describe)


def _agent(seen: Seen, node: SeenNode) -> Iterator[Remark]:
    agent = node.agent
    if agent is not None and not agent.ready:
        yield Remark(f"the agent of {node.name} isn't ready: {agent.reason or 'it says no more'}", agent.look)
    elif agent is not None and agent.behind:
        more = f" and {len(agent.behind) - _SHOWN} more" if len(agent.behind) > _SHOWN else ""
        shown = ", ".join(agent.behind[:_SHOWN])
        yield Remark(f"node {node.name} hasn't applied {shown}{more}", agent.look)
    elif agent is not None and agent.warnings:
        yield from (Remark(f"the agent of {node.name} says: {warning}", agent.look) for warning in agent.warnings)
    elif agent is None and seen.installation is not None and seen.installation.daemonset and node.machine is not None:
        describe = f"kubectl -n {seen.installation.namespace} describe daemonset tortie-agent"
        yield Remark(f"node {node.name} has no agent", describe)
        return
    if not node.known and (node.machine is not None or agent is not None):
        look = agent.look if agent is not None else _first_step(seen)
        yield Remark(f"node {node.name} hasn't told itself to the others: there is no Node of ours", look)
    elif node.known and not node.addresses:
        yield Remark(f"node {node.name} tells no address, so no other can route to it", agent.look if agent else "")


def _pools(seen: Seen) -> Iterator[Remark]:
    if not seen.pools:
        made = "kubectl apply" if seen.installation is not None else "tortiectl apply"
        yield Remark("there is no IPPool, so no pod gets an address", f"{made} -f pool.yaml (docs/node.md shows one)")
    elif all(pool.disabled for pool in seen.pools):
        yield Remark("every IPPool is disabled, so no pod gets an address", "tortiectl get ippools")
    for pool in seen.pools:
        yield from _pool(pool)


def _pool(pool: SeenPool) -> Iterator[Remark]:
    if pool.fault:
        yield Remark(f"pool {pool.name} isn't used, it {pool.fault}", "tortiectl ipam check")
    elif pool.status.conflicts_with:
        rival = pool.status.conflicts_with
        yield Remark(f"pool {pool.name} isn't used, it overlaps {rival}", f"tortiectl get ippools {pool.name} -o yaml")
    elif not pool.disabled and not pool.status.free:
        yield Remark(f"pool {pool.name} is exhausted", "tortiectl ipam show --blocks; then add an IPPool")
    elif not pool.disabled and pool.used_percent >= _NEARLY_FULL:
        yield Remark(f"pool {pool.name} is {pool.used_percent} % full", "tortiectl ipam show", wrong=False)


def _controller(seen: Seen) -> Iterator[Remark]:
    look = "tortiectl lab restart controller" if seen.lab else "journalctl -u tortie-controller"
    if seen.installation is not None:
        look = f"kubectl -n {seen.installation.namespace} get pods; then logs deployment/tortie-controller"
    if not seen.leader:
        yield Remark("no controller leads: what departed nodes leave isn't taken back", look)
    elif seen.leader_silent_s > _SILENT_S:
        yield Remark(f"the leader, {seen.leader}, hasn't renewed its Lease for {seen.leader_silent_s:.0f} s", look)


def _first_step(seen: Seen) -> str:
    if seen.installation is not None:
        return "kubectl apply -k manifests/"
    return "tortiectl lab restart NODE" if seen.lab else "tortiectl host init"
