"""The lab's controller, in the outer namespaces, and the process by which its nodes reach a datastore's server."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent import asking
from kernel.process import Process
from kernel.runner import CommandRunner
from lab.forward import Server
from lab.holder import enter, environment, outside
from lab.state import Folder, LabError, LabState, ProcessRecord

READY_S = 30.0
"""How long a controller may take until somebody leads: a second, more on a loaded machine."""
_END_S = 15.0


def start(folder: Folder, state: LabState) -> LabState:
    """Start the controller, ended first if it still runs; `wait` for it then."""
    end(state)
    folder.of_controller.mkdir(mode=0o700, exist_ok=True)
    folder.controller.unlink(missing_ok=True)
    program = Path(sys.executable).with_name("tortie-controller")
    command = (
        *enter(state.holder, rootless=state.rootless),
        *(str(program), "--datastore", folder.datastore, "--identity", "lab", "--state", str(folder.of_controller)),
    )
    with folder.controller_log.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment(folder)
        )
    state = msgspec.structs.replace(state, controller=_recorded(process))
    folder.write(state)
    return state


def wait(folder: Folder, state: LabState) -> None:
    """Return when the controller leads, or knows who does.

    Raises:
        LabError: it doesn't within half a minute; says what it said last.
    """
    limit = time.monotonic() + READY_S
    while time.monotonic() < limit and state.controller is not None and state.controller.process.alive:
        said = status(folder)
        if said is not None and said.get("leader"):
            return
        time.sleep(0.05)
    lines = [line for line in folder.controller_log.read_text(errors="replace").splitlines() if line.strip()]
    raise LabError(f"the controller doesn't lead: {lines[-1] if lines else 'it said nothing'}")


def status(folder: Folder) -> Mapping[str, Any] | None:
    """What the controller says of itself; None if none answers."""
    return asking.status(folder.controller)


def end(state: LabState) -> None:
    """End the controller, if it runs; it gives its Lease up."""
    if state.controller is None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        state.controller.process.end(number)
        limit = time.monotonic() + _END_S
        while state.controller.process.alive and time.monotonic() < limit:
            time.sleep(0.02)


def forward(folder: Folder, state: LabState, servers: Sequence[Server]) -> LabState:
    """Make servers of this machine reachable in every namespace of the lab; see `lab.forward`.

    Raises:
        LabError: a socket can't be made there.
    """
    if not servers:
        return state
    keepers = [state.holder, *(node.keeper for node in state.nodes)]
    for keeper in keepers:
        runner = CommandRunner(enter(keeper, rootless=state.rootless))
        for address in {server.address for server in servers if not server.loopback}:
            runner.run(("ip", "addr", "add", address, "dev", "lo"))
    words = (",".join(str(keeper.pid) for keeper in keepers), *map(str, servers))
    process = subprocess.Popen(
        (*outside(state), sys.executable, "-I", "-m", "lab.forward", *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(folder),
    )
    if process.stdout is None or process.stdout.readline().strip() != "ready":
        _, stderr = process.communicate()
        said = (stderr.strip().splitlines() or ["no message"])[-1]
        raise LabError(f"the nodes can't be given a way to {', '.join(map(str, servers))}: {said}")
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    state = msgspec.structs.replace(state, forwarder=_recorded(process))
    folder.write(state)
    return state


def _recorded(process: "subprocess.Popen[Any]") -> ProcessRecord:
    process.returncode = 0  # it outlives this process on purpose
    found = Process.of(process.pid)
    return ProcessRecord(found.pid, found.start)
