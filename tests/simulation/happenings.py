"""What happens to a cluster, one thing after the other, each drawn from the seed: see `plan` for how often."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from datastore.resources.ippool import IPPool, IPPoolSpec
from ipam.handles import lock_name
from tests.simulation.runtimes import Pod, Runtime
from tests.simulation.world import GRACE_S, World

_MANY = (2, 6)
"""Of what is done several times at once."""
_OUTAGES_S = (0.05, 1.0, 20.0, 200.0)
_DECLARED_DEAD_S = (1.0, 60.0, 400.0)
"""Means of how long it takes until somebody deletes a dead machine's Node."""


class Happenings:
    """Does things to a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random
        self._pods = 0
        self._taken = 0

    def act(self) -> None:
        """The next thing."""
        weights = self.world.plan.weights
        (name,) = self.random.choices(list(weights), list(weights.values()))
        action: Callable[[], None] = getattr(self, f"_{name}")
        action()

    # Pods

    def _add(self) -> None:
        runtime = self._some()
        if runtime.machine.on:
            self._begin_life(runtime, self._new_pod(runtime))

    def _add_some(self) -> None:
        for _ in range(self.random.randint(*_MANY)):
            self._add()

    def _add_many_on_one(self) -> None:
        runtime = self._some()
        for _ in range(self.random.randint(*_MANY) if runtime.machine.on else 0):
            self._begin_life(runtime, self._new_pod(runtime))

    def _add_asked(self) -> None:
        """A pod that asks for one address, perhaps one that somebody has."""
        runtime = self._some()
        if runtime.machine.on and not self.world.plan.asked_pools[1:]:
            pod = self._new_pod(runtime)
            pod.families, pod.asked = (4,), f"10.65.0.{self.random.randrange(16)}"
            self._begin_life(runtime, pod)

    def _add_again(self) -> None:
        if (found := self._some_pod()) is not None:
            self.world.begin(f"{found[0].machine.node} adds {found[1].container} again", self._again(*found))

    def _come_back(self) -> None:
        """A container that was removed is started again."""
        runtime = self._some()
        if runtime.left and runtime.machine.on and not runtime.retired:
            pod = runtime.left.pop(self.random.choice(list(runtime.left)))
            self._begin_life(runtime, pod)

    def _new_sandbox(self) -> None:
        """A pod's container died: the same pod gets a new one, and the old one is removed before, after or never."""
        if (found := self._some_pod()) is None:
            return
        runtime, old = found
        if not runtime.machine.on:
            return
        new = self._new_pod(runtime)
        new.name, new.uid = old.name, old.uid
        order = self.random.choice(["remove first", "add first", "forget"])
        self.world.begin(
            f"{runtime.machine.node} remakes {old.container} as {new.container}, {order}",
            self._remade(runtime, old, new, order),
        )

    def _delete(self) -> None:
        if (found := self._some_pod()) is not None:
            self.world.begin(f"{found[0].machine.node} deletes {found[1].container}", found[0].delete(found[1]))

    def _delete_some(self) -> None:
        for _ in range(self.random.randint(*_MANY)):
            self._delete()

    def _forget(self) -> None:
        if (found := self._some_pod()) is not None:
            self.world.trace.note("world", f"{found[0].machine.node} forgets {found[1].container}")
            found[0].forget(found[1])

    def _collect(self) -> None:
        runtime = self._some()
        if runtime.machine.on:
            self.world.begin(f"{runtime.machine.node} collects", runtime.collect())

    def _take_by_hand(self) -> None:
        runtime = self._some()
        if runtime.agent is not None and runtime.agent.listening:
            self._taken += 1
            self.world.begin(
                f"{runtime.machine.node} takes manual/{self._taken}", runtime.take(f"manual/{self._taken}")
            )

    def _give_back_by_hand(self) -> None:
        there = [(one, handle) for one in self.world.runtimes for handle, taken in one.by_hand.items() if taken]
        if there:
            runtime, handle = self.random.choice(there)
            self.world.begin(f"{runtime.machine.node} gives {handle} back", runtime.give_back(handle))

    # Machines

    def _kill_agent(self) -> None:
        runtime = self._some()
        runtime.kill_agent()
        if self.random.random() < 0.5:
            runtime.start_agent()

    def _kill_controller(self) -> None:
        for controller in self.world.controllers:
            if self.random.random() < 0.5:
                controller.process.kill()

    def _start_everything(self) -> None:
        self.world.start_everything()

    def _reboot(self) -> None:
        runtime = self._some()
        runtime.turn_off()
        if self.random.random() < 0.7 and not runtime.retired:
            runtime.machine.on = True
            runtime.start_agent()
        if self.random.random() < 0.5:
            runtime.pods.clear()  # a runtime that keeps nothing sends no DEL

    def _depart(self) -> None:
        """A machine is gone for good; another with its name comes, or the same with a new image, or none."""
        there = [runtime for runtime in self.world.runtimes if not runtime.retired]
        if there:
            runtime = self.random.choice(there)
            again = self.random.choice(["never", "another machine", "new image", "new image, same identity"])
            self.world.begin(
                f"{runtime.machine.node}.{runtime.machine.identity} departs; it comes back as {again}",
                self._departed(runtime, again),
            )

    def _banish(self) -> None:
        """A machine is cut off, declared dead though it runs, and comes back: somebody else may have its name then."""
        there = [runtime for runtime in self.world.runtimes if not runtime.retired and runtime.machine.on]
        if there:
            runtime = self.random.choice(there)
            self.world.begin(f"{runtime.machine.node}.{runtime.machine.identity} is banished", self._banished(runtime))

    def _delete_node(self) -> None:
        """Somebody deletes the Node of a machine that is well: its agent makes it again."""
        runtime = self._some()
        if not runtime.retired:
            self.world.begin(f"Node {runtime.machine.node} goes", self._without_node(runtime))

    def _lose_record(self) -> None:
        """While no agent runs, a file of a living pod is lost."""
        if (found := self._some_pod()) is not None:
            runtime, pod = found
            path = runtime.machine.state / "attachments" / f"{lock_name(pod.handle)}.json"
            routed = {str(address) for address in runtime.machine.kernel.routes}
            # Who lost both record and route can't be told from one that went.
            if routed.issuperset(self.world.judge.of(pod.handle) or [""]) and not pod.on_link and not pod.calls:
                runtime.kill_agent()
                pod.recorded = False
                path.unlink(missing_ok=True)
                self.world.trace.note("world", f"{runtime.machine.node} loses the record of {pod.container}")

    def _lose_routes(self) -> None:
        """Somebody flushes a machine's routes, and nobody puts them back for long."""
        runtime = self._some()
        if all(pod.recorded for pod in runtime.pods.values()):
            runtime.machine.kernel.routes.clear()

    # The rest

    def _outage(self) -> None:
        place = self.random.choice(["*", *(runtime.machine.place for runtime in self.world.runtimes)])
        self.world.begin(f"outage of {place}", self._out(place, self.random.choice(_OUTAGES_S)))

    def _wait(self) -> None:
        """Nothing: what lies between two things grows longer."""

    def _toggle_strict(self) -> None:
        self.world.configure(strict=self.random.random() < 0.5)

    def _change_pool(self) -> None:
        """A pool is disabled, or enabled again."""
        inner = self.world.server.inner
        pool = self.random.choice(self.world.server.now(inner.list(IPPool)).items)
        spec = IPPoolSpec(cidr=pool.spec.cidr, block_size=pool.spec.block_size, disabled=not pool.spec.disabled)
        self.world.server.now(inner.update(IPPool(metadata=pool.metadata, spec=spec)))
        self.world.trace.note("world", f"pool {pool.name} {'disabled' if spec.disabled else 'enabled'}")

    # How some of it goes on

    def _some(self) -> Runtime:
        return self.random.choice(self.world.runtimes)

    def _some_pod(self) -> tuple[Runtime, Pod] | None:
        there = [(one, pod) for one in self.world.runtimes if not one.retired for pod in one.pods.values()]
        return self.random.choice(there) if there else None

    def _new_pod(self, runtime: Runtime) -> Pod:
        self._pods += 1
        number = self._pods
        return Pod(
            f"c{number}",
            name=f"pod-{number}",
            uid=f"uid-{number}",
            families=self.random.choice(self.world.plan.families),
            pools=self.random.choice(self.world.plan.asked_pools),
            on_link=runtime.machine.habits.on_link,
        )

    def _begin_life(self, runtime: Runtime, pod: Pod) -> None:
        self.world.begin(f"{runtime.machine.node} adds {pod.container}", self._life(runtime, pod))

    async def _life(self, runtime: Runtime, pod: Pod) -> None:
        """An ADD, and what its runtime does if that fails: libcni's DEL."""
        with suppress(asyncio.CancelledError):
            removals = pod.removals
            if await runtime.add(pod) or pod.removals != removals or not runtime.machine.on:
                return
            if self.random.random() < 0.8:
                await runtime.delete(pod)
            else:
                runtime.forget(pod)

    async def _again(self, runtime: Runtime, pod: Pod) -> None:
        if pod.boot == runtime.machine.kernel.boot_id and runtime.machine.on and not pod.leaving and pod.recorded:
            await runtime.add(pod)

    async def _remade(self, runtime: Runtime, old: Pod, new: Pod, order: str) -> None:
        if order == "remove first":
            await runtime.delete(old)
        elif order == "forget":
            runtime.forget(old)
        await self._life(runtime, new)
        if order == "add first":
            await runtime.delete(old)

    async def _departed(self, runtime: Runtime, again: str) -> None:
        machine = runtime.machine
        runtime.retired = True
        runtime.turn_off()
        dead_s = self.random.uniform(0.0, 2 * self.random.choice(_DECLARED_DEAD_S))
        if again == "never" or self.random.random() < 0.5:
            await asyncio.sleep(dead_s)
            self.world.declare_dead(runtime)
        if again != "never":
            identity = machine.identity if again.endswith("same identity") else None
            self.world.install(machine.node, identity)
            await asyncio.sleep(dead_s)
            self.world.declare_dead(runtime)

    async def _banished(self, runtime: Runtime) -> None:
        machine = runtime.machine
        with self.world.server.cut_off(machine.place):
            await asyncio.sleep(self.random.expovariate(1 / 30.0))
            if runtime.retired:
                return
            for one in self.world.runtimes:
                if one.machine.node == machine.node:  # a rival for the name lives on the same addresses' Node
                    one.disown()
            self.world.declare_dead(runtime)
            if self.random.random() < 0.5:
                runtime.retired = True
                self.world.install(machine.node)
            await self._until_it_is_looked_for(machine.node)

    async def _until_it_is_looked_for(self, node: str) -> None:
        """Mostly until just after a controller has asked for the Node a last time, before it takes addresses back."""
        asked = self.world.server.asked(f"get Node {node}")
        limit_s = self.random.expovariate(1 / 300.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s if self.random.random() < 0.3 else 3 * GRACE_S):
                await asked.wait()
                await asyncio.sleep(self.random.uniform(0.0, 2.0))

    async def _without_node(self, runtime: Runtime) -> None:
        """If its agent can't make it again before a controller may act, nobody is held to what its pods were told."""
        self.world.delete_node(runtime.machine.node, runtime.machine.identity)
        await asyncio.sleep(0.6 * GRACE_S)
        if not runtime.retired and not self.world.has_node(runtime):
            runtime.disown()

    async def _out(self, place: str, mean_s: float) -> None:
        with self.world.server.cut_off(place):
            await asyncio.sleep(self.random.expovariate(1 / mean_s))
