"""The controller, twice: safety never rests on who leads, so here both do, and none asks for the Lease.

Real: everything that a leader does (`controller.controller`, its view, reclaim of departed nodes, pools' status).
Left out: the election, the socket for tools.
"""

import asyncio
from collections.abc import Callable

from controller import controller
from controller.options import Options
from tests.simulation.machine import Machine
from tests.simulation.process import Process


class Controller(controller.Controller):
    """A process that leads as long as it lives; on a machine that nothing else is on."""

    def __init__(self, machine: Machine, on_failure: Callable[[str], None]) -> None:
        self.machine = machine
        self.process: Process = machine.new_process("controller")
        self.process.on_failure = lambda error: on_failure(f"{self.process.name} ended with {error!r}")
        options = Options("memory:", machine.node, "kube-system", machine.state, "INFO")
        super().__init__(options, machine.server.connect(self.process, machine.place))

    def start(self) -> None:
        """Begin."""
        self.process.start(self._work(), vital=True)

    async def _pause(self) -> None:
        """Less often than a real one: each look costs real time."""
        grace_s = self._view.settings.reclaim_grace_seconds
        await asyncio.sleep(min(self.machine.habits.look_every_s, grace_s * 0.75))
