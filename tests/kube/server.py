"""A server as a process: started with a log file, killed, stopped for a while, started again."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

READY_S = 120.0
STOP_S = 10.0
"""An API server that is shut down in order waits for requests on their way."""
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(what: str, condition: Callable[[], bool], log: Path | None = None) -> None:
    """Return once it holds; fail after `READY_S`, with the end of the log."""
    until = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > until:
            tail = log.read_text()[-4000:] if log else ""
            raise AssertionError(f"{what}: not within {READY_S} s\n{tail}")
        time.sleep(_POLL_S)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One program with its arguments; `ready` says whether it answers."""

    def __init__(self, command: Sequence[object], log: Path, ready: Callable[[], bool]) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise AssertionError(f"{self.command[0]} isn't running")
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and hasn't ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Run it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it answers."""
        wait_for(self.command[0], self._answers, self.log)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"{self.command[0]} ended:\n{self.log.read_text()[-4000:]}")
        return self._ready()

    def kill(self) -> None:
        """SIGKILL; nothing happens if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that takes longer than `STOP_S`."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
