"""A running lab, for tests: tortiectl as its users type it, many probes at once, and the kernel of each node."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kernel.runner import CommandRunner
from lab import agents, pods
from lab.holder import enter
from lab.pods import NewPod, Port
from lab.probing import addresses
from lab.state import Folder, LabNode, LabPod, LabState

CTL = os.path.join(os.path.dirname(sys.executable), "tortiectl")
_PROBES = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from lab.probe import probe
asked = json.load(sys.stdin)
with ThreadPoolExecutor(max_workers=64) as pool:
    json.dump(list(pool.map(lambda one: probe(*one), asked)), sys.stdout)
"""
WAIT_S = 2.5


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str


class Cluster:
    """One lab."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    @property
    def state(self) -> LabState:
        return self.folder.running()

    def ctl(self, *arguments: str, stdin: str = "") -> Said:
        """tortiectl on this lab."""
        environment = {**os.environ, "TORTIE_STATE": str(self.folder.path)}
        done = subprocess.run(
            (CTL, *arguments), input=stdin, capture_output=True, text=True, check=False, env=environment
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def done(self, *arguments: str, stdin: str = "") -> str:
        """The same, which must succeed."""
        said = self.ctl(*arguments, stdin=stdin)
        assert said.status == 0, f"{arguments}: {said.err or said.out}"
        return said.out

    def run(
        self, name: str, labels: Mapping[str, str] | None = None, ports: Sequence[str] = (), node: str = ""
    ) -> LabPod:
        """A pod `namespace/name`, made in this process."""
        namespace, _, short = name.partition("/")
        wanted = NewPod(namespace, short, node, labels or {}, tuple(Port.parse(port) for port in ports))
        return pods.run(self.folder, self.state, wanted)

    def run_all(self, wanted: Mapping[str, tuple[Mapping[str, str], Sequence[str]]]) -> None:
        """Many pods, spread over the nodes in turn."""
        nodes = [node.name for node in self.state.nodes]
        jobs = [(name, *what, nodes[place % len(nodes)]) for place, (name, what) in enumerate(wanted.items())]
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda job: self.run(*job), jobs))

    def pod(self, name: str) -> LabPod:
        namespace, _, short = name.partition("/")
        return pods.known(self.folder, namespace, short)

    def addresses(self, name: str) -> list[str]:
        """A pod's addresses, IPv4 first."""
        return addresses(self.folder, self.pod(name))

    def inside(self, name: str) -> CommandRunner:
        """Runs commands in a pod's network namespace."""
        return CommandRunner(pods.inside(self.state, self.pod(name)))

    def on(self, node: str) -> CommandRunner:
        """Runs commands on a node."""
        return CommandRunner(enter(self.node(node).keeper, rootless=self.state.rootless))

    def node(self, name: str) -> LabNode:
        return self.state.node(name)

    def restart_agent(self, node: str) -> None:
        agents.start(self.folder, self.state, node)

    def kill_agent(self, node: str) -> None:
        agent = self.node(node).agent
        assert agent is not None
        agent.process.end()
        while agent.process.alive:
            pass

    def status(self, node: str) -> Mapping[str, object]:
        return agents.status(self.folder, node) or {}

    def probe(self, source: str, *asked: tuple[str, int, str], wait_s: float = WAIT_S) -> list[str]:
        """What a pod hears of each (address, port, protocol): open, closed or silent; all at once."""
        command = (*pods.inside(self.state, self.pod(source)), sys.executable, "-I", "-c", _PROBES)
        questions = json.dumps([(*one, wait_s) for one in asked])
        done = subprocess.run(command, input=questions, capture_output=True, text=True, check=True)
        answers: list[str] = json.loads(done.stdout)
        return answers

    def reaches(self, source: str, destination: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a pod reaches another in every family."""
        asked = [(address, port, protocol) for address in self.addresses(destination)]
        heard = set(self.probe(source, *asked))
        assert len(heard) == 1, f"the families differ: {heard}"
        return heard != {"silent"}

    def clear(self) -> None:
        """Remove every pod and policy, and bring every agent back."""
        for node in self.state.nodes:
            if node.agent is None or not node.agent.process.alive:
                self.restart_agent(node.name)
        for kind in ("networkpolicies", "namespaces"):
            listed = json.loads(self.done("get", kind, "-A", "-o", "json"))["items"]
            if listed:
                self.done("delete", "-f", "-", stdin=json.dumps({"kind": "List", "items": listed}))
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(
                pool.map(lambda pod: pods.remove(self.folder, self.state, pod.namespace, pod.name), self.folder.pods())
            )


def saved(cluster: Cluster, node: str) -> dict[str, str]:
    """Rules, sets and routes of a node, without counters and in an order of their own."""
    on = cluster.on(node)
    texts = {f"{command}-save": on.run((f"{command}-nft-save",)) for command in ("iptables", "ip6tables")}
    texts["ipset"] = "\n".join(sorted(on.run(("ipset", "save")).splitlines()))
    texts["routes"] = on.run(("ip", "route")) + on.run(("ip", "-6", "route"))
    return {name: _without_counters(text) for name, text in texts.items()}


def _without_counters(text: str) -> str:
    lines = [line.split(" [")[0] if line.startswith(":") else line for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith("#"))
