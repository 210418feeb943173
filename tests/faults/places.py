"""The other end of `cni.faults`: says which places an agent has come to, and keeps a call there while a test does harm.

The agent waits at a place until it is answered, so what a test does meanwhile (kills, locks, fills disks) takes place
at just that step, without a sleep. A place that no test asked for is answered at once.
"""

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADD = (
    "add checked",
    "add recorded",
    "add before pair",
    "add before address",
    "add assigned",
    "add made",
    "add connected",
    "add completed",
    "add enforced",
)
"""Every place of ADD, in the order in which one comes to them (those about pair and address side by side)."""
DEL = ("del checked", "del journalled", "del down", "del dismissed", "del released")
_LIMIT_S = 30.0


class Stop:
    """A call kept at a place, once it has come there."""

    def __init__(self, place: str, visit: int) -> None:
        self.place = place
        self.visit = visit
        self._reached = threading.Event()
        self._gone_on = threading.Event()
        self._call: socket.socket | None = None

    def reached(self, limit_s: float = _LIMIT_S) -> None:
        """Return when a call is there."""
        assert self._reached.wait(limit_s), f"nobody came to {self.place!r}"

    def go(self) -> None:
        """Let the call go on, or pass if it comes later."""
        self._gone_on.set()
        if self._call is not None:
            _answer(self._call)
            self._call = None

    def keep(self, call: socket.socket) -> None:
        """For the server: a call has come."""
        self._call = call
        self._reached.set()
        if self._gone_on.is_set():
            self.go()


class Places:
    """Listens at a path; `stop` a call at a place."""

    def __init__(self, path: Path) -> None:
        self.environment = {"TORTIE_FAULT_SOCKET": str(path)}
        """What an agent needs to be told, to come here."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._stops: list[Stop] = []
        self._visits: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="places")
        self._thread.start()

    @contextmanager
    def stop(self, place: str, nth: int = 1) -> Iterator[Stop]:
        """Keep the call that makes the nth visit of a place from now on; it goes on at the end of the block."""
        with self._lock:
            stop = Stop(place, self._visits[place] + nth)
            self._stops.append(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._stops = [other for other in self._stops if other is not stop]
            stop.go()

    def visits(self, place: str) -> int:
        """How often calls came to a place."""
        with self._lock:
            return self._visits[place]

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        os.unlink(self.environment["TORTIE_FAULT_SOCKET"])

    def _serve(self) -> None:
        while True:
            try:
                call, _ = self._listener.accept()
            except OSError:  # closed
                return
            with call.makefile("r") as lines:
                place = lines.readline().strip()
            with self._lock:
                self._visits[place] += 1
                visit = self._visits[place]
                found = next((stop for stop in self._stops if (stop.place, stop.visit) == (place, visit)), None)
            if found is None:
                _answer(call)
            else:
                found.keep(call)


@contextmanager
def places(path: Path) -> Iterator[Places]:
    """A server of places, closed at the end."""
    made = Places(path)
    try:
        yield made
    finally:
        made.close()


def _answer(call: socket.socket) -> None:
    with call, contextlib.suppress(OSError):  # its agent may be dead by now
        call.sendall(b"\n")
