"""What a runtime executes: the relay, which asks the agent, and what is done where none answers.

    relay.c              ADD fails with code 11, DEL leaves a tombstone
    python -m cni        does the call itself: a process with an allocator of its own, on the same files

One of the two on each machine (`Habits.standalone`).
"""

import asyncio

from cni import removals
from cni.errors import CniError
from cni.plugin import Output, Plugin
from cni.request import Request
from cni.standalone import NoEndpoints, NoPolicy, _claim
from datastore.errors import StoreError
from tests.simulation.agents import Agent, allocator, node
from tests.simulation.machine import DONE, UNANSWERED, Machine
from tests.simulation.process import Process

_WAIT_S = {"DEL": 20.0, "STATUS": 2.0}
_BESIDE = 0.2
_WAIT_ELSE_S = 180.0
"""As `cni.__main__` and relay.c wait for an agent."""


async def call(machine: Machine, agent: Agent | None, request: Request) -> Output:
    """What a runtime is answered."""
    if not machine.on:
        return UNANSWERED
    try:
        async with asyncio.timeout(_WAIT_S.get(request.command, _WAIT_ELSE_S)):
            if agent is not None and agent.listening and not agent.process.dead and not _refused(machine):
                output = await machine.run(agent.process, agent.plugin, request)
                if output is not UNANSWERED or request.command != "DEL" or not machine.on:
                    return output
            elif machine.habits.standalone:
                return await _alone(machine, request)
    except TimeoutError:
        machine.trace.note(machine.node, f"no answer to {request.command} in time")
    if request.command != "DEL" or not machine.on:
        return UNANSWERED
    if machine.habits.standalone:
        return await _alone(machine, request)
    machine.bury(request)
    return DONE


def _refused(machine: Machine) -> bool:
    """Whether an agent that runs takes no call just now, and the plugin does it beside it."""
    return machine.habits.standalone and machine.random.random() < _BESIDE


async def _alone(machine: Machine, request: Request) -> Output:
    """A process of its own, which dies with its runtime."""
    process = machine.new_process("cni")
    task = process.start(_one_call(machine, process, request))
    try:
        await asyncio.wait((task,))
        return UNANSWERED if process.dead else task.result()
    finally:
        process.kill()


async def _one_call(machine: Machine, process: Process, request: Request) -> Output:
    """See `cni.standalone.run`."""
    allocating = allocator(machine, process)
    try:
        if request.command != "DEL":
            await allocating.load()
        if request.command == "ADD":
            await _claim(machine.server.connect(process, machine.place), machine.node, machine.identity)
    except (StoreError, CniError):
        return UNANSWERED
    services = node(machine, process, allocating, NoEndpoints(), NoPolicy())
    plugin = Plugin(services)
    plugin.not_ready = ""
    output = await plugin.run(request)
    await removals.ended(services)
    return output
