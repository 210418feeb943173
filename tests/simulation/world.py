"""One seed's cluster: its machines, what goes on in it, and what must be so when it has come to rest."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

from cni.records import Records
from datastore.errors import NotFound
from datastore.record import key_for
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.node import Node
from datastore.resources.value import Metadata
from tests.simulation.api import Api
from tests.simulation.controllers import Controller
from tests.simulation.judge import Judge
from tests.simulation.machine import Habits, Machine
from tests.simulation.plan import Plan
from tests.simulation.runtimes import Runtime
from tests.simulation.server import Server, Weather
from tests.simulation.trace import Trace

GRACE_S = 120
"""Of reclaim, in every seed: short, so that a seed is."""
_REST_S = 460.0
"""Virtual seconds within which everything has ended once nothing fails: an address is seen at every second look, forty
seconds apart, a record without a link after the grace, and a block rests 300 s by its node's clock."""
_LAST_S = 120.0
"""Virtual seconds within which what an agent owes the store is paid."""
_OPERATIONS_S = 5000.0
"""Virtual seconds within which every operation must have ended once nothing fails; late writes take that long, too."""


class World:
    """A cluster."""

    def __init__(self, plan: Plan, trace: Trace, folder: Path) -> None:
        self.plan = plan
        self.trace = trace
        self.folder = folder
        self.random = Random(f"{plan.seed}/work")
        self.server = Server(Random(f"{plan.seed}/network"), trace, keep=plan.keep)
        self.judge = Judge(on_violation=lambda what: trace.note("JUDGE", what))
        self.server.on_write = self.judge.on_write
        self.server.on_refusal = self.judge.on_refusal
        self.api = Api(self.server)
        self.runtimes: list[Runtime] = []
        self.controllers: list[Controller] = []
        self.work: dict[asyncio.Task[Any], str] = {}
        self.given_up: set[tuple[str, str]] = set()
        """Pods and their addresses of which an agent has said that they are another's by now."""
        self._installed = 0

    def on_log(self, record: logging.LogRecord) -> None:
        """What agents call errors: `agent.regain` tells which addresses are lost."""
        if record.module == "regain" and isinstance(record.args, tuple):
            _, pod, address = record.args
            self.given_up.add((str(pod), str(address)))

    async def begin_all(self) -> None:
        """Make pools and machines, and wait until they are at work."""
        for pool in self.plan.pools:
            self.server.now(self.server.inner.create(pool))
        self.configure(strict=self.plan.strict)
        for number in range(self.plan.machines):
            self.install(f"node-{number}")
        for number in range(2):
            machine = Machine(
                self.server, self.random, self.trace, self.folder, f"controller-{number}", f"k{number}", Habits()
            )
            if self.plan.reclaim:
                self.controllers.append(Controller(machine, self.judge.wrong))
        for controller in self.controllers:
            controller.start()
        while not all(one.agent is not None and one.agent.listening for one in self.runtimes):
            await asyncio.sleep(0.1)
        self.server.weather = self.plan.weather

    def install(self, node: str, identity: str | None = None) -> Runtime:
        """A machine with an empty disk and the name of a node."""
        self._installed += 1
        name = f"m{self._installed}"
        random = Random(f"{self.plan.seed}/{name}")
        machine = Machine(
            self.server, random, self.trace, self.folder / name, node, identity or name, self.plan.habits(), place=name
        )
        machine.skew_s = random.choice(self.plan.skews_s)
        runtime = Runtime(machine, self.judge, random, self.api)
        self.runtimes.append(runtime)
        runtime.start_agent()
        return runtime

    def configure(self, *, strict: bool) -> None:
        """Set what an administrator sets."""
        spec = ClusterConfigurationSpec(
            strict_affinity=strict, cooldown_seconds=self.plan.cooldown_s, reclaim_grace_seconds=GRACE_S
        )
        inner = self.server.inner
        try:
            found = self.server.now(inner.get(ClusterConfiguration, NAME))
        except NotFound:
            self.server.now(inner.create(ClusterConfiguration(metadata=Metadata(name=NAME), spec=spec)))
        else:
            self.server.now(inner.update(ClusterConfiguration(metadata=found.metadata, spec=spec)))

    def begin(self, what: str, work: Coroutine[Any, Any, Any]) -> None:
        """Start an operation, which must come to its end."""
        task = asyncio.create_task(work)
        self.work[task] = what
        task.add_done_callback(self._ended)
        self.trace.note("world", what)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        what = self.work.pop(task)
        if not task.cancelled() and task.exception() is not None:
            self.judge.wrong(f"{what} raised {task.exception()!r}")

    def start_everything(self) -> None:
        """What died and isn't gone for good is started."""
        for runtime in self.runtimes:
            if not runtime.retired:
                runtime.machine.on = True
                runtime.start_agent()
        for number, controller in enumerate(self.controllers):
            if controller.process.dead:
                self.controllers[number] = Controller(controller.machine, self.judge.wrong)
                self.controllers[number].start()

    def declare_dead(self, runtime: Runtime) -> None:
        """Somebody says that a machine is gone: its pods go from the API, and its Node."""
        self.trace.note("world", f"{runtime.machine.node}.{runtime.machine.identity} is declared dead")
        runtime.unbind()
        there = [one for one in self.runtimes if not one.retired and one.machine.identity == runtime.machine.identity]
        if not there or runtime in there:
            self.delete_node(runtime.machine.node, runtime.machine.identity)

    def has_node(self, runtime: Runtime) -> bool:
        """Whether there is a Node of a machine."""
        try:
            found = self.server.now(self.server.inner.get(Node, runtime.machine.node))
        except NotFound:
            return False
        return found.spec.machine == runtime.machine.identity

    def delete_node(self, node: str, identity: str | None = None) -> None:
        """Delete a Node, if it is that machine's."""
        inner = self.server.inner
        try:
            found = self.server.now(inner.get(Node, node))
        except NotFound:
            return
        if identity in (None, found.spec.machine):
            self.server.now(inner.delete(found), key_for(found))
            self.trace.note("world", f"Node {node} deleted")

    # The end

    async def come_to_rest(self) -> None:
        """Nothing fails any more, everything that died is started, and time passes; then what is left is judged."""
        self.trace.note("world", "at rest from here on")
        self.server.weather = Weather()
        for runtime in self.runtimes:
            runtime.machine.habits.risk = 0.0
            runtime.machine.habits.look_every_s = 100.0
        await self._until_done("operations")
        for runtime in self.runtimes:
            for pod in runtime.dead():
                if self.random.random() < 0.5:
                    self.begin(f"{runtime.machine.node} deletes {pod.container}", runtime.delete(pod))
                else:
                    runtime.forget(pod)
        await self._until_done("deletes")
        for runtime in self.runtimes:
            runtime.sweep()
        await self._rest()
        if self.plan.on_link:
            await self._collect()
        self._check_rest()
        for runtime in self.runtimes:
            for pod in list(runtime.pods.values()) if not runtime.retired else ():
                self.begin(f"{runtime.machine.node} deletes {pod.container}", runtime.delete(pod))
            for handle in list(runtime.by_hand) if not runtime.retired else ():
                self.begin(f"{runtime.machine.node} gives {handle} back", runtime.give_back(handle))
        await self._until_done("the last operations")
        await asyncio.sleep(_LAST_S)
        self._check_rest()

    async def _rest(self) -> None:
        for runtime in self.runtimes:
            if runtime.retired:
                runtime.turn_off()
                self.declare_dead(runtime)
        self.start_everything()
        await asyncio.sleep(_REST_S)

    async def _collect(self) -> None:
        """GC everywhere: of addresses on others' links nobody else can tell whose they are."""
        for runtime in self.runtimes:
            if not runtime.retired:
                self.begin(f"{runtime.machine.node} collects", runtime.collect())
        await self._until_done("collections")

    async def _until_done(self, what: str) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() + _OPERATIONS_S
        while self.work or self.server.late:
            if loop.time() > limit:
                self.judge.wrong(f"{what} don't end: {', '.join(self.work.values())}, {self.server.late} late writes")
                return
            self.start_everything()
            await asyncio.sleep(5.0)

    def _check_rest(self) -> None:
        there = {pod.handle for one in self.runtimes if not one.retired for pod in one.pods.values()}
        there |= {handle for runtime in self.runtimes for handle in runtime.by_hand}
        for address, (block, handle) in self.judge.owned().items():
            if handle not in there:
                self.judge.wrong(f"{address} is lost: {handle} has it in {block}, and isn't there")
        for name, (_, spec) in self.judge.blocks.items():
            if not spec.ready and self.plan.reclaim:
                self.judge.wrong(f"{name} of {spec.node} isn't ready, and nobody looks after it")
        for runtime in self.runtimes:
            links = runtime.machine.kernel.links
            for pod in runtime.pods.values() if not runtime.retired else ():
                if self.judge.of(pod.handle) and not pod.on_link and pod.link not in links:
                    self.judge.wrong(f"{pod.handle} lives and has lost its link")
        self._check_records()
        for runtime in self.runtimes:
            for record in Records(runtime.machine.state).unfinished() if not runtime.retired else ():
                self.judge.wrong(f"{runtime.machine.node} still owes the removal of {record.attachment.handle}")

    def _check_records(self) -> None:
        """What a node's records say is so, unless its agent has told that it isn't."""
        owned = self.judge.owned()
        for runtime in self.runtimes:
            for record in Records(runtime.machine.state).all() if not runtime.retired else ():
                for address in map(str, record.addresses):
                    _, owner = owned.get(address, ("", ""))
                    if owner != record.attachment.handle and (record.pod, address) not in self.given_up:
                        self.judge.wrong(
                            f"{record.attachment.handle} has a record of {address}, and it is {owner or 'nobody'}'s"
                        )

    async def stop(self) -> None:
        """End everything, so that nothing is left of this seed."""
        machines = [one.machine for one in self.runtimes] + [one.machine for one in self.controllers]
        for machine in machines:
            machine.turn_off()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
