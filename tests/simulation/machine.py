"""A machine: what it keeps when its processes die, and the relay that a runtime executes there.

disk     handles, records, journal, tombstones, the note of the boot     survives everything but a new image
kernel   links, routes, pods' namespaces                                 gone with the power
agent    one process, or none                                            `agent`
alone    `python -m cni` processes, one for each call                    `alone`
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from cni.plugin import Output, Plugin
from cni.request import Request, pack
from tests.simulation.kernel import Kernel
from tests.simulation.process import Process
from tests.simulation.server import Server
from tests.simulation.trace import Trace

EPOCH = 1_700_000_000.0
"""What the true clock says when a seed begins."""
UNANSWERED = Output(1, b'{"code": 11, "msg": "no agent answers"}')
"""What the relay prints where no agent is, or where it dies; a DEL leaves a tombstone then."""
DONE = Output(0)


@dataclass
class Habits:
    """How a machine's processes behave."""

    risk: float = 0.0
    """How likely each change of a file is its process's last."""
    look_every_s: float = 45.0
    """How often the agent looks after what is owed: less often than a real one, for each look costs real time."""
    standalone: bool = False
    """Where no agent answers the plugin runs by itself (`python -m cni`)."""
    reclaim: bool = True
    """Whether anybody takes back what is lost; without it nothing may be."""
    kubernetes: bool = False
    """There are Pods, so nobody writes WorkloadEndpoints."""
    on_link: bool = False
    """Tortie is the IPAM plugin below another main plugin here."""


class Machine:
    """One machine with the name of a node."""

    def __init__(
        self,
        server: Server,
        random: Random,
        trace: Trace,
        folder: Path,
        node: str,
        identity: str,
        habits: Habits,
        place: str = "",
    ) -> None:
        self.server = server
        self.random = random
        self.trace = trace
        self.folder = folder
        self.node = node
        self.identity = identity
        self.habits = habits
        self.place = place or identity
        """What a partition cuts off."""
        self.kernel = Kernel(self.place)
        self.skew_s = 0.0
        self.on = True
        self.processes: dict[Process, None] = {}
        self._started = 0
        self._buried = 0

    @property
    def state(self) -> Path:
        """The folder of files."""
        return self.folder / "state"

    @property
    def socket(self) -> Path:
        """Where the agent would listen; tombstones are beside it."""
        return self.folder / "run" / "cni.sock"

    def clock(self) -> float:
        """What this machine takes for the time."""
        return EPOCH + asyncio.get_running_loop().time() + self.skew_s

    def draw(self) -> str:
        """An allocation id."""
        return f"{self.random.getrandbits(64):016x}"

    def new_process(self, what: str) -> Process:
        """A process that dies with the power."""
        self._started += 1
        process = Process(f"{self.node}.{self.place}/{what}{self._started}", self.kernel, self.trace)
        self.processes = {one: None for one in self.processes if not one.dead}
        self.processes[process] = None
        self.trace.note(process.name, "starts")
        return process

    def turn_off(self) -> None:
        """Power is cut: every process dies and the kernel forgets."""
        self.trace.note(f"{self.node}.{self.place}", "power off")
        self.on = False
        for process in self.processes:
            process.kill()
        self.kernel.reboot()

    async def run(self, process: Process, plugin: Plugin, request: Request) -> Output:
        """One call in a process; unanswered if that dies. Who waits no longer is a relay that is gone."""
        task = process.start(plugin.run(request))
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            if request.command == "ADD":
                task.cancel()
            process.start(self._unheard(plugin, request, task))
            raise
        return UNANSWERED if process.dead or task.cancelled() else task.result()

    async def _unheard(self, plugin: Plugin, request: Request, task: "asyncio.Task[Output]") -> None:
        with suppress(asyncio.CancelledError):
            await plugin.unheard(request, await task)

    def bury(self, request: Request) -> None:
        """What the relay does with a DEL that no agent answers."""
        folder = self.socket.parent / "tombstones"
        folder.mkdir(parents=True, exist_ok=True)
        self._buried += 1
        (folder / f"{self._buried:06}.del").write_bytes(pack(request.environment, request.stdin))
        self.trace.note(f"{self.node}.{self.place}", "a tombstone")


async def quietly(work: Coroutine[Any, Any, object], *errors: type[BaseException]) -> None:
    """Do something that may fail so."""
    with suppress(*errors):
        await work
