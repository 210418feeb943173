"""The agents are rolled, as an upgrade does it, while pods talk across nodes in both families: nothing is lost."""

import threading
import time

from tests.e2e.documents import agnhost, apply, pod, remove
from tests.e2e.running import Running, all_running, eventually
from tests.e2e.tortie import AGENT, NAMESPACE, program_pods
from tests.kube.whole.cluster import Cluster

_EVERY_S = 0.02
_ANSWER_S = 1.0
_ROLLED_WITHIN = "--timeout=180s"


class Talk:
    """One pod asks another by UDP, fifty times a second, until it is stopped."""

    def __init__(self, asks: Running, address: str) -> None:
        self._asks, self._address = asks, address
        self._stopped = threading.Event()
        self.asked = 0
        self.lost: list[float] = []
        """When, in seconds since the beginning."""
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
            if self._asks.place.hears(self._address, protocol="UDP", seconds=_ANSWER_S) != "open":
                self.lost.append(round(at, 2))


def _heard(asks: Running, address: str) -> bool:
    """Routes of a new block reach a peer a moment after its first pod."""
    return asks.place.hears(address, protocol="UDP") == "open"


def test_rolling_the_agents_loses_nothing(cluster: Cluster) -> None:
    pods = [pod(f"talks-{number}", agnhost(), node=f"node-{number}", app="talks") for number in (1, 2, 3)]
    apply(cluster, *pods)
    first, second, third = all_running(cluster, "app=talks", 3)
    circle = ((first, second), (second, third), (third, first))
    pairs = [(asks, address) for asks, answers in circle for address in answers.addresses]
    eventually("pods talk", lambda: all(_heard(asks, address) for asks, address in pairs))
    before = {name: one["metadata"]["uid"] for name, one in program_pods(cluster, AGENT).items()}
    talks = [Talk(asks, address) for asks, address in pairs]
    try:
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", f"daemonset/{AGENT}")
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{AGENT}", _ROLLED_WITHIN)
    finally:
        for talk in talks:
            talk.stop()
    after = {name: one["metadata"]["uid"] for name, one in program_pods(cluster, AGENT).items()}
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert [talk.lost for talk in talks] == [[]] * 6
    assert min(talk.asked for talk in talks) > 100
    remove(cluster, *pods)
