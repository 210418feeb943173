"""Pods of the lab: a network namespace on a node, attached by executing the CNI plugin, with a server inside."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.endpoints import endpoint_name
from cni.chain import Chain, ChainError, Container, read_conflist
from cni.records import Record
from datastore.errors import NotFound
from datastore.resources import names
from datastore.resources.networkpolicy import PROTOCOLS, check_port, check_port_name
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.urls import open_store
from kernel.process import Process
from kernel.runner import CommandRunner
from lab import agents
from lab.holder import enter, namespace_path
from lab.state import Folder, LabError, LabNode, LabPod, LabState, ProcessRecord

NETWORK = "tortie"
INTERFACE = "eth0"
_CONFLIST = {
    "cniVersion": "1.0.0",
    "cniVersions": ["1.0.0", "1.1.0"],
    "name": NETWORK,
    "plugins": [
        {
            "type": "tortie",
            "mtu": 0,
            "ipam": {"type": "tortie-ipam", "assign_ipv4": True, "assign_ipv6": True},
            "policy": {"type": "k8s"},
            "log_level": "info",
        }
    ],
}
_CHECKOUT = Path(__file__).resolve().parents[1] / "build" / "cni"
_DIGITS = 5
_PUBLISHED_S = 10.0
_PLUGIN_S = 30.0
"""How long one call of the plugin may take, with an agent that hangs."""
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True)
class Port:
    """A port that the pod listens on; with a name, policies may call it so."""

    number: int
    protocol: str = "TCP"
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Port":
        """`8080`, `8080/UDP`, `http:8080`, `http:8080/TCP`.

        Raises:
            Invalid: it is no port.
        """
        name, colon, rest = text.rpartition(":")
        number, slash, protocol = rest.partition("/")
        if colon:
            check_port_name(name, "--port")
        if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            raise names.invalid("--port", text, "is no port; write [name:]number[/TCP|UDP|SCTP]")
        check_port(int(number), "--port")
        if slash and protocol.upper() not in PROTOCOLS:
            raise names.invalid("--port", text, f"has no protocol of {', '.join(PROTOCOLS)}")
        return cls(int(number), protocol.upper() or "TCP", name)


def write_conflist(folder: Folder) -> None:
    """The network's configuration, as a runtime would find it."""
    folder.conflist.write_text(json.dumps(_CONFLIST, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod that is wanted."""

    namespace: str
    name: str
    node: str = ""
    """Empty: the node with the fewest pods."""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Judge names and labels.

        Raises:
            Invalid: names what is wrong.
        """
        names.check_label_name(self.namespace, "namespace")
        names.check_subdomain(self.name, "name")
        names.check_labels(self.labels, "--label")
        for key in self.annotations:
            names.check_label_key(key.lower(), "--annotation")
        for what, found in (
            ("listened on", [f"{port.number}/{port.protocol}" for port in self.ports]),
            ("named", [port.name for port in self.ports if port.name]),
        ):
            twice = next((one for one in found if found.count(one) > 1), None)
            if twice is not None:
                raise names.invalid("--port", twice, f"is {what} twice")

    def extra(self) -> dict[str, object]:
        """What of it goes to the plugin beside CNI_ARGS: labels by the CNI conventions, the rest as ours."""
        labels = [{"key": key, "value": value} for key, value in self.labels.items()]
        ports = [{"name": one.name, "port": one.number, "protocol": one.protocol} for one in self.ports if one.name]
        extra: dict[str, object] = {"labels": labels, "tortie.dev/ports": ports}
        if self.annotations:
            extra["tortie.dev/annotations"] = dict(self.annotations)
        return {"args": {"cni": extra}}


def run(folder: Folder, state: LabState, wanted: NewPod) -> LabPod:
    """Make a pod and return when every running agent knows it.

    Raises:
        LabError: it exists, or can't be made; nothing of it is left then.
        Invalid: a name or label that is none.
    """
    wanted.check()
    home = state.node(wanted.node) if wanted.node else _emptiest(folder, state)
    if not _is_served(home):
        raise LabError(f"the agent of {home.name} doesn't run", f"start it: tortiectl lab restart {home.name}", 3)
    identity = secrets.token_hex(8)
    pod = LabPod(
        namespace=wanted.namespace,
        name=wanted.name,
        node=home.name,
        container_id=identity,
        netns=f"pod-{identity}",
        args=f"IgnoreUnknown=1;K8S_POD_NAMESPACE={wanted.namespace};K8S_POD_NAME={wanted.name}",
        extra=wanted.extra(),
    )
    with folder.locked():
        _check_new(folder, pod)
        folder.write_pod(pod)
    try:
        pod = _make(folder, state, home, pod, wanted.ports)
    except BaseException:
        _undo(folder, state, home, pod)
        raise
    asyncio.run(_until_published(folder, state, pod))
    return pod


def remove(folder: Folder, state: LabState, namespace: str, name: str) -> None:
    """Remove a pod and return when every running agent has forgotten it.

    Raises:
        LabError: there is none, or its plugin failed.
    """
    pod = known(folder, namespace, name)
    home = state.node(pod.node)
    try:
        _chain(folder, state, home).delete(_container(home, pod))
    except ChainError as error:
        raise LabError(str(error), "try again, or end the lab: tortiectl lab down") from error
    _clear(folder, state, home, pod)
    agents.wait_applied(folder, state, [_endpoint(pod)])


def known(folder: Folder, namespace: str, name: str) -> LabPod:
    """A pod of the lab.

    Raises:
        LabError: there is none.
    """
    pod = folder.pod(namespace, name)
    if pod is None:
        raise LabError(f"no pod {namespace}/{name} in this lab", "list them: tortiectl get pods -A", 2)
    return pod


def inside(state: LabState, pod: LabPod) -> tuple[str, ...]:
    """The command that runs another in a pod's network namespace."""
    keeper = state.node(pod.node).keeper
    return enter(keeper, rootless=state.rootless, netns=namespace_path(keeper, pod.netns))


def execute(state: LabState, pod: LabPod, command: Sequence[str]) -> int:
    """Run a command in a pod's network namespace; gives its exit status."""
    return subprocess.run((*inside(state, pod), *command), check=False).returncode


def _make(folder: Folder, state: LabState, home: LabNode, pod: LabPod, ports: Sequence[Port]) -> LabPod:
    runner = CommandRunner(enter(home.keeper, rootless=state.rootless))
    runner.run(("ip", "netns", "add", pod.netns))
    try:
        _chain(folder, state, home).add(_container(home, pod))
    except ChainError as error:
        raise LabError(str(error), f"look at {folder.log(home.name)}") from error
    if ports:
        pod = msgspec.structs.replace(pod, server=_serve(state, pod, ports))
        folder.write_pod(pod)
    return pod


def _serve(state: LabState, pod: LabPod, ports: Sequence[Port]) -> ProcessRecord:
    chosen = [f"{port.number}/{port.protocol}" for port in ports]
    process = subprocess.Popen(
        (*inside(state, pod), sys.executable, "-I", "-m", "lab.serve", *chosen),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if process.stdout is None or process.stdout.readline().strip() != "ready":
        _, stderr = process.communicate()
        said = (stderr.strip().splitlines() or ["no message"])[-1]
        raise LabError(f"{pod.namespace}/{pod.name} can't listen: {said}")
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.returncode = 0  # it outlives this process on purpose
    found = Process.of(process.pid)
    return ProcessRecord(found.pid, found.start)


def _check_new(folder: Folder, pod: LabPod) -> None:
    if folder.pod(pod.namespace, pod.name) is not None:
        called = f"{pod.namespace}/{pod.name}"
        raise LabError(f"pod {called} exists", f"remove it: tortiectl lab rm {called}")


def _undo(folder: Folder, state: LabState, home: LabNode, pod: LabPod) -> None:
    """Remove what there is of a pod that couldn't be made; where the plugin fails it stays known, for `lab rm`."""
    try:
        if Path(namespace_path(home.keeper, pod.netns)).exists():
            _chain(folder, state, home).delete(_container(home, pod))
    except ChainError:
        return
    _clear(folder, state, home, pod)


def _clear(folder: Folder, state: LabState, home: LabNode, pod: LabPod) -> None:
    """Everything of a pod that isn't its network's."""
    there = folder.pod(pod.namespace, pod.name)
    if there is not None and there.server is not None:
        there.server.process.end()
    if Path(namespace_path(home.keeper, pod.netns)).exists():
        CommandRunner(enter(home.keeper, rootless=state.rootless)).run(("ip", "netns", "del", pod.netns))
    folder.forget_pod(pod)


def _chain(folder: Folder, state: LabState, home: LabNode) -> Chain:
    conflist = read_conflist(folder.conflist.read_text(), str(folder.conflist))
    environment = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    prefix = enter(home.keeper, rootless=state.rootless)
    return Chain(conflist, [_plugins(folder)], folder.results, environment, prefix, _PLUGIN_S)


def _plugins(folder: Folder) -> Path:
    """Where the plugin is: what `make relay` built, else a script that stands in for it."""
    if (_CHECKOUT / "tortie").exists():
        return _CHECKOUT
    own = folder.path / "bin"
    if not (own / "tortie").exists():
        own.mkdir(mode=0o700, exist_ok=True)
        (own / "tortie").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -m cni\n')
        (own / "tortie").chmod(0o700)
        shutil.copy(own / "tortie", own / "tortie-ipam")
    return own


def _container(home: LabNode, pod: LabPod) -> Container:
    return Container(
        id=pod.container_id,
        netns=namespace_path(home.keeper, pod.netns),
        interface=INTERFACE,
        args=pod.args,
        extra=pod.extra,
    )


def _emptiest(folder: Folder, state: LabState) -> LabNode:
    """Of the nodes whose agent runs, if one does, that with the fewest pods."""
    pods = [pod.node for pod in folder.pods()]
    return min(state.nodes, key=lambda node: (not _is_served(node), pods.count(node.name)))


def _is_served(node: LabNode) -> bool:
    return node.agent is not None and node.agent.process.alive


def _endpoint(pod: LabPod) -> agents.Awaited:
    """What the pod's agent publishes it as, and takes away with it."""
    record = Record(
        network=NETWORK,
        container_id=pod.container_id,
        interface=INTERFACE,
        host_interface="",
        namespace=pod.namespace,
        pod=pod.name,
    )
    return agents.Awaited(WorkloadEndpoint.KIND.full_name, pod.namespace, endpoint_name(record))


async def _until_published(folder: Folder, state: LabState, pod: LabPod) -> None:
    wanted = _endpoint(pod)
    store = await open_store(folder.datastore)
    try:
        async with asyncio.timeout(_PUBLISHED_S):
            while True:
                try:
                    found = await store.get(WorkloadEndpoint, wanted.name, wanted.namespace)
                    break
                except NotFound:
                    await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        hint = f"look at {folder.log(pod.node)}"
        raise LabError(f"{pod.namespace}/{pod.name} isn't published", hint, agents.TIMED_OUT) from None
    finally:
        await store.close()
    agents.wait_applied(folder, state, [agents.Awaited.of(found)])
