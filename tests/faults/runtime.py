"""What a container runtime does with a plugin: begins a call, may kill it, and cleans up after what failed."""

import contextlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from kernel.links import host_interface
from tests.host import RELAY, Host, Said
from tests.sandbox import Namespace

IPAM = {"type": "tortie-ipam", "assign_ipv4": True, "assign_ipv6": True}
CONFIG = {"cniVersion": "1.1.0", "name": "net", "type": "tortie", "policy": {"type": "k8s"}, "ipam": IPAM}
_LIMIT_S = 60
_numbers = count(1)


class Call:
    """One execution of the plugin that has begun."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._said: Said | None = None

    def kill(self) -> None:
        """What a runtime does at its deadline."""
        self._process.kill()
        self.said()

    def said(self) -> Said:
        """How it ended."""
        if self._said is None:
            out, err = self._process.communicate(timeout=_LIMIT_S)
            self._said = Said(self._process.returncode, out, err)
        return self._said


def executed(host: Host, program: Path, environment: Mapping[str, str], config: Mapping[str, object]) -> Call:
    """A plugin executed on a host, its configuration written to it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        (*host.enter(), str(program)), env=dict(environment), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # VERSION reads nothing
        process.stdin.write(json.dumps(config))
        process.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdin = None
    return Call(process)


@dataclass
class Container:
    """One container of a pod, with a namespace of its own."""

    host: Host
    pod: str
    labels: Mapping[str, str]
    namespace: Namespace
    calls: list[Call] = field(default_factory=list)
    """All that began, for whoever has to end them."""
    id: str = field(default_factory=lambda: f"container-{next(_numbers)}")

    @property
    def config(self) -> dict[str, Any]:
        labels = [{"key": key, "value": value} for key, value in self.labels.items()]
        return {**CONFIG, "args": {"cni": {"labels": labels}}}

    @property
    def host_interface(self) -> str:
        """The host end's name."""
        return host_interface(str(CONFIG["name"]), self.id, "eth0")

    def begin(self, command: str, netns: str | None = None) -> Call:
        """The plugin, executed; what it says is asked for later."""
        environment = self.host.environment(
            CNI_COMMAND=command,
            CNI_CONTAINERID=self.id,
            CNI_NETNS=self.namespace.path if netns is None else netns,
            CNI_IFNAME="eth0",
            CNI_PATH=str(RELAY.parent),
            CNI_ARGS=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={self.pod}",
        )
        self.calls.append(executed(self.host, RELAY, environment, self.config))
        return self.calls[-1]

    def add(self) -> dict[str, Any]:
        """ADD, which must succeed: its result."""
        said = self.begin("ADD").said()
        assert said.status == 0, said.out
        return said.json

    def delete(self, netns: str | None = None) -> None:
        """DEL, which must succeed and say nothing."""
        said = self.begin("DEL", netns).said()
        assert (said.status, said.out) == (0, "")

    def refused(self, command: str = "ADD") -> int:
        """A call that must fail, with one error object: its code."""
        return refusal(self.begin(command).said())

    def successor(self) -> "Container":
        """What a kubelet makes of the pod after a failure: another container, in another namespace."""
        return Container(self.host, self.pod, self.labels, self.host.pod(), self.calls)


def refusal(said: Said) -> int:
    """The code of a failure: one error object on standard output, with every key that the SPEC asks for."""
    assert said.status != 0, f"it succeeded: {said.out}"
    error = said.json
    assert set(error) == {"cniVersion", "code", "msg", "details"}
    code: int = error["code"]
    return code


def addresses(result: Mapping[str, Any]) -> list[str]:
    """The addresses in a result, IPv4 first."""
    return [ip["address"].partition("/")[0] for ip in result["ips"]]
