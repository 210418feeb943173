"""Pods that ask each other fifty times a second while something happens: what wasn't answered is told."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.e2e.documents import agnhost, apply, pod
from tests.e2e.running import Running, all_running, eventually
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster

_EVERY_S = 0.02
_ANSWER_S = 5.0
"""Nobody asks again by UDP: what is lost stays so, and what is late on a busy machine isn't lost."""
_NAME = "talks"


class Talk:
    """One pod asks another by UDP, fifty times a second, until it is stopped."""

    def __init__(self, asks: Running, answers: Running) -> None:
        self._asks, self._answers = asks, answers
        self._stopped = threading.Event()
        self.asked = 0
        self.lost: list[float] = []
        """When, in seconds since the beginning."""
        self.slowest_s = 0.0
        """The longest that an answer took."""
        self._thread = threading.Thread(target=self._talk)
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _talk(self) -> None:
        while not self._stopped.wait(_EVERY_S):
            at = time.monotonic() - self._began
            self.asked += 1
            if self._asks.place.hears(self._answers.address, protocol="UDP", seconds=_ANSWER_S) != "open":
                self.lost.append(round(at, 2))
            else:
                self.slowest_s = max(self.slowest_s, time.monotonic() - self._began - at)


def pods() -> list[Document]:
    """One on each of three nodes."""
    return [pod(f"{_NAME}-{number}", agnhost(), node=f"node-{number}", app=_NAME) for number in (1, 2, 3)]


@contextmanager
def talking(cluster: Cluster) -> Iterator[Sequence[Talk]]:
    """They run, and each asks the next, as long as this lasts; at the end the talks say what was lost."""
    apply(cluster, *pods())
    first, second, third = all_running(cluster, f"app={_NAME}", 3)
    pairs = ((first, second), (second, third), (third, first))
    eventually("pods talk", lambda: all(_heard(asks, answers) for asks, answers in pairs))
    talks = [Talk(asks, answers) for asks, answers in pairs]
    try:
        yield talks
    finally:
        for talk in talks:
            talk.stop()


def _heard(asks: Running, answers: Running) -> bool:
    """Routes of a new block reach a peer a moment after its first pod."""
    return asks.place.hears(answers.address, protocol="UDP") == "open"
