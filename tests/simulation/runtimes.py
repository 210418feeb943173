"""A runtime on each machine: it makes pods and removes them, and what it was told is what the judge holds everybody to.

A pod lives, for the judge, from the answer of its ADD until its runtime begins its DEL, or its machine loses power, or
is declared dead.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from cni.plugin import Output
from cni.request import Request
from kernel.links import host_interface
from tests.simulation.agents import Agent
from tests.simulation.api import NAMESPACE, Api
from tests.simulation.judge import Judge
from tests.simulation.machine import Machine
from tests.simulation.relay import call

NETWORK = "net"
_DELETE_AGAIN_S = 30.0
"""Longest pause between DELs of which none succeeds."""
_LEFT = 4
_TELL_S = 5.0
"""Mean of how long a kubelet takes to write a pod's addresses into its status."""


@dataclass(eq=False)
class Pod:
    """One attachment, as its runtime knows it."""

    container: str
    name: str
    uid: str
    families: tuple[int, ...] = (4,)
    asked: str = ""
    pools: tuple[str, ...] = ()
    on_link: bool = False
    removals: int = 0
    """DELs that were begun."""
    leaving: int = 0
    """DELs that haven't been answered yet: a runtime begins no ADD of the same container meanwhile (SPEC section 3)."""
    disowned: bool = False
    """Its Node was gone for long: it may have lost its addresses."""
    recorded: bool = True
    """Its node has a record of it: without one a second ADD finds a link that nobody knows, and undoes everything."""
    boot: str = ""
    calls: "dict[asyncio.Task[Output], None]" = field(default_factory=dict)
    """Under way."""

    @property
    def handle(self) -> str:
        """As IPAM names it."""
        return f"{NETWORK}:{self.container}:eth0"

    @property
    def path(self) -> str:
        """Of its network namespace."""
        return f"/run/netns/{self.container}"

    @property
    def link(self) -> str:
        """Its host end."""
        return host_interface(NETWORK, self.container, "eth0")


class Runtime:
    """What executes plugins on a machine, and its kubelet where there is an API."""

    def __init__(self, machine: Machine, judge: Judge, random: Random, api: Api) -> None:
        self.machine = machine
        self.judge = judge
        self.random = random
        self.agent: Agent | None = None
        self.pods: dict[str, Pod] = {}
        """Those that were added and not removed, as far as the runtime knows."""
        self.left: dict[str, Pod] = {}
        """The last that were removed: a container that comes back has the same id."""
        self.by_hand: dict[str, bool] = {}
        """Handles of addresses that were taken by hand, and whether that has been answered."""
        self.retired = False
        """Its machine was declared dead; nobody starts it again."""
        self._api = api
        self._bound: dict[str, str] = {}
        """Every pod that the API ever had here: name and uid."""
        self._busy = 0
        """ADDs and DELs under way."""
        self._quiet = asyncio.Event()
        """There are none."""
        self._quiet.set()
        self._allowed = asyncio.Event()
        """No GC is under way."""
        self._allowed.set()

    def start_agent(self) -> None:
        """Start the agent if there is none."""
        if self.machine.on and (self.agent is None or self.agent.process.dead):
            self.agent = Agent(self.machine, self.judge.wrong)
            self.agent.start()

    def kill_agent(self) -> None:
        """SIGKILL."""
        if self.agent is not None:
            self.agent.process.kill()

    def turn_off(self) -> None:
        """Power is cut; no pod survives."""
        self.machine.turn_off()
        self.disown()

    def disown(self) -> None:
        """Nobody is held to what these pods were told."""
        for pod in self.pods.values():
            pod.removals += 1
            pod.disowned = True
            self.judge.untold(pod.handle)

    def unbind(self) -> None:
        """The API loses every pod that was this machine's."""
        for name, uid in self._bound.items():
            self._api.delete(name, uid)

    async def add(self, pod: Pod) -> bool:
        """ADD; whether the pod has what it needs."""
        await self._allowed.wait()
        if pod.leaving:
            return False
        kernel = self.machine.kernel
        kernel.namespaces[pod.path] = None
        pod.boot, removals = kernel.boot_id, pod.removals
        self.pods[pod.container] = pod
        if self.machine.habits.kubernetes:
            self._api.bind(pod.name, pod.uid, self.machine.node)
            self._bound[pod.name] = pod.uid
        output = await self._call("ADD", pod)
        if output.status or pod.boot != kernel.boot_id:
            return False
        if pod.removals != removals:
            await self.delete(pod)  # nobody wants it any more
            return False
        addresses = [one["address"].partition("/")[0] for one in json.loads(output.stdout)["ips"]]
        self._judge(pod, addresses)
        if self.machine.habits.kubernetes:
            await asyncio.sleep(self.random.expovariate(1 / _TELL_S))
            if pod.removals == removals and self.machine.on:
                self._api.tell(pod.name, pod.uid, addresses)
        return True

    def _judge(self, pod: Pod, addresses: list[str]) -> None:
        before = self.judge.of(pod.handle)
        if before and before != sorted(addresses):
            self.judge.wrong(f"{pod.handle} was told {before}, and then {addresses}")
        versions = tuple(sorted(6 if ":" in address else 4 for address in addresses))
        if versions != pod.families or (pod.asked and pod.asked not in addresses):
            self.judge.wrong(f"{pod.handle} asked for {pod.families} {pod.asked}, and was told {addresses}")
        for address in addresses:
            self.judge.told(pod.handle, address)

    async def delete(self, pod: Pod) -> None:
        """DEL, again until it succeeds; a runtime may have killed an ADD before, and its API lost the pod."""
        await self._allowed.wait()
        if self.random.random() < 0.5:
            for task in pod.calls:
                task.cancel()
        if self.random.random() < 0.3:
            self._api.delete(pod.name, pod.uid)
        pod.removals += 1
        pod.leaving += 1
        self.judge.untold(pod.handle)
        try:
            again_s = 0.1
            while (await self._call("DEL", pod)).status:
                if self.retired:
                    return
                await asyncio.sleep(self.random.uniform(0.0, again_s))
                again_s = min(again_s * 3, _DELETE_AGAIN_S)
        finally:
            pod.leaving -= 1
        self.pods.pop(pod.container, None)
        self.left[pod.container] = pod
        while len(self.left) > _LEFT:
            del self.left[next(iter(self.left))]
        if pod.boot == self.machine.kernel.boot_id:
            self.machine.kernel.namespaces.pop(pod.path, None)
        if not any(one.uid == pod.uid for one in self.pods.values()):
            self._api.delete(pod.name, pod.uid)

    async def take(self, handle: str) -> None:
        """Somebody takes an address by hand, by way of the agent; who isn't answered may have it all the same."""
        agent = self.agent
        if agent is None or agent.process.dead:
            return
        self.by_hand[handle] = False
        task = agent.process.start(agent.take(handle))
        await asyncio.wait((task,))
        given = () if agent.process.dead or task.cancelled() else task.result()
        self.by_hand[handle] = True
        for address in given if not self.retired else ():
            self.judge.told(handle, address)

    async def give_back(self, handle: str) -> None:
        """It is given back."""
        self.judge.untold(handle)
        while handle in self.by_hand and not self.retired:
            agent = self.agent
            if agent is not None and agent.listening and not agent.process.dead:
                task = agent.process.start(agent.give_back(handle))
                await asyncio.wait((task,))
                if not agent.process.dead and not task.cancelled() and task.result():
                    self.by_hand.pop(handle, None)
                    return
            await asyncio.sleep(5.0)

    def forget(self, pod: Pod) -> None:
        """A runtime is killed and knows nothing of a pod: its namespace goes with its link, and no DEL comes."""
        self.judge.untold(pod.handle)
        pod.removals += 1
        self.pods.pop(pod.container, None)
        for task in pod.calls:
            task.cancel()
        self.machine.kernel.remove(pod.link)
        self.machine.kernel.namespaces.pop(pod.path, None)
        self._api.delete(pod.name, pod.uid)

    def dead(self) -> list[Pod]:
        """The pods that don't live: of an ADD that failed, or of before a reboot."""
        there = [pod for pod in self.pods.values() if not self.retired and not self.judge.of(pod.handle)]
        return [pod for pod in there if not pod.disowned or pod.link not in self.machine.kernel.links]

    def sweep(self) -> None:
        """What no pod is left of goes from the kernel and from the API, too."""
        links = {pod.link for pod in self.pods.values()}
        for link in [link for link in self.machine.kernel.links if link not in links]:
            self.machine.kernel.remove(link)
        uids = {pod.uid for pod in self.pods.values()}
        for name, uid in self._bound.items():
            if uid not in uids:
                self._api.delete(name, uid)

    async def collect(self) -> None:
        """GC with what the runtime knows; beside it no ADD and no DEL is begun (SPEC section 2, "GC")."""
        if not self._allowed.is_set():
            return
        self._allowed.clear()
        await self._quiet.wait()
        valid = [{"containerID": name, "ifname": "eth0"} for name in self.pods]
        await self._run("GC", {}, {"cni.dev/valid-attachments": valid}, "tortie")
        self._allowed.set()

    async def _call(self, command: str, pod: Pod) -> Output:
        args = f"K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={pod.name}"
        if self.machine.habits.kubernetes:
            args += f";K8S_POD_UID={pod.uid}"
        environment = {
            "CNI_CONTAINERID": pod.container,
            "CNI_NETNS": pod.path,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;{args}" + (f";IP={pod.asked}" if pod.asked else ""),
        }
        pools = {f"ipv{family}_pools": list(pod.pools) for family in pod.families if pod.pools}
        ipam = {"assign_ipv4": 4 in pod.families, "assign_ipv6": 6 in pod.families, **pools}
        program = "tortie-ipam" if pod.on_link else "tortie"
        self._busy += 1
        self._quiet.clear()
        task = asyncio.create_task(self._run(command, environment, {"ipam": ipam}, program))
        pod.calls[task] = None
        try:
            return await task
        finally:
            del pod.calls[task]
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def _run(
        self, command: str, environment: Mapping[str, str], config: Mapping[str, object], program: str
    ) -> Output:
        stdin = {"cniVersion": "1.1.0", "name": NETWORK, "type": "tortie", **config}
        request = Request(
            {"CNI_COMMAND": command, "TORTIE_PROGRAM": program, **environment}, json.dumps(stdin).encode()
        )
        return await call(self.machine, self.agent, request)
