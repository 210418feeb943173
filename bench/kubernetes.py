"""Ten thousand Pods on the Kubernetes API: what listing and watching them costs a process, in CPU seconds and memory.

    python -m bench.kubernetes [--pods 10000] [--events 10000] [--rounds 3]

One real API server is filled with Pods of the usual size. Then, each in a fresh process of its own, in turn:
    watch    the MODIFIED events of Pods that get their address, as they come
    replay   the same events again, from the API server's history
    list     all Pods, as the driver lists them, in pages
    whole    the same in one answer without pages
    fetch    the same pages with nothing decoded: what HTTP, gzip and TLS alone cost
    plain    that without gzip

CPU is user and system time of that process, around the one call. Memory is its peak, beside what it was when the store
had been opened: VmHWM, since ru_maxrss begins with what the parent had before exec (fs/exec.c, exec_mmap).
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp
import msgspec

from bench import pods
from bench.reader import IN_FLIGHT, READY, Cost, session_of
from bench.report import circumstances
from tests.kube.apiserver import ADMIN_TOKEN, ApiServer
from tests.kube.cluster import ControlPlane

GOAL_CPU_S = 0.4
GOAL_MIB = 100
"""Of one list of 10,000 Pods: the whole process's peak."""
_PAGED = ("list", "whole", "fetch", "plain")


class Refused(Exception):
    """The API server doesn't take an object; the measurement is worth nothing."""


@dataclass(frozen=True, slots=True)
class Started:
    """A child on its way."""

    process: "subprocess.Popen[str]"
    output: IO[str]

    def cost(self) -> Cost:
        """What it says at its end."""
        found = msgspec.json.decode(self.output.readline(), type=Cost)
        self.process.wait()
        return found


@contextmanager
def started(mode: str, url: str, start: str = "") -> Iterator[Started]:
    """A fresh process for one call."""
    command = [sys.executable, "-m", "bench.reader", mode, url, *([start] if start else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise AssertionError("a pipe was asked for")
        try:
            yield Started(process, process.stdout)
        finally:
            process.kill()


async def send(server: ApiServer, method: str, requests: Iterator[tuple[str, bytes]]) -> None:
    """Send all of them, `IN_FLIGHT` at a time.

    Raises:
        Refused: one of them.
    """
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"

    async def sender(session: aiohttp.ClientSession) -> None:
        for path, body in requests:
            url = server.url + path
            async with session.request(method, url, data=body, headers={"Content-Type": kind}) as answer:
                if not answer.ok:
                    raise Refused(f"{method} {path}: {await answer.text()}")
                await answer.read()

    async with session_of(server.certs.authority, ADMIN_TOKEN) as session:
        await asyncio.gather(*(sender(session) for _ in range(IN_FLIGHT)))


def measure(server: ApiServer, url: str, count: int, events: int, rounds: int) -> None:
    """Fill the server, and tell what each way costs."""
    asyncio.run(send(server, "POST", ((pods.PATH, pods.body(number)) for number in range(count))))
    with started("watch", url) as watcher:
        start = watcher.output.readline().removeprefix(READY).strip()
        asyncio.run(send(server, "PATCH", (pods.patch(number % count, number) for number in range(events - 1))))
        last = pods.patch((events - 1) % count, events - 1, last=True)
        asyncio.run(send(server, "PATCH", iter([last])))
        _tell("watch", [watcher.cost()])
    with started("replay", url, start) as watcher:
        _tell("replay", [watcher.cost()])
    rest = (pods.patch(number, number) for number in range(events, count))
    asyncio.run(send(server, "PATCH", rest))
    costs: dict[str, list[Cost]] = {mode: [] for mode in _PAGED}
    for _ in range(rounds):
        for mode in _PAGED:
            with started(mode, url) as one:
                costs[mode].append(one.cost())
    for mode, found in costs.items():
        _tell(mode, found)
    size = costs["fetch"][0].items / count
    print(f"a Pod is {size:.0f} bytes of JSON; goal of a list of 10,000: {GOAL_CPU_S} s CPU, peak {GOAL_MIB} MiB")


def _tell(mode: str, found: list[Cost]) -> None:
    times = sorted(cost.cpu_s for cost in found)
    peak, after, opened = (
        max(getattr(cost, name) for cost in found) for name in ("peak_mib", "after_mib", "opened_mib")
    )
    unit = "bytes" if mode in ("fetch", "plain") else "Pods" if mode in _PAGED else "events"
    print(
        f"{mode:7} {found[0].items:9} {unit:6}: CPU {statistics.median(times):.3f} s ({times[0]:.3f} to "
        f"{times[-1]:.3f}, {len(times)} runs), wall {statistics.median(cost.wall_s for cost in found):.2f} s; "
        f"{opened:.0f} MiB opened, peak {peak:.0f}, {after:.0f} at the end",
        flush=True,
    )


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("; ".join(f"{key} {value}" for key, value in circumstances().items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="tortie-bench-", dir="/var/tmp") as text:
        folder = Path(text)
        plane = ControlPlane(folder)
        try:
            url = f"kubernetes://{plane.cached.kubeconfig(folder / 'kubeconfig')}?qps=0"
            measure(plane.cached, url, given.pods, given.events, given.rounds)
        finally:
            plane.stop()
    print("load at the end " + circumstances()["load"])


if __name__ == "__main__":
    main()
