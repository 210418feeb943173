"""What an agent keeps: its memory with 250 pods, and its memory and descriptors over 10,000 pairs of ADD and DEL.

    python -m bench.soak [--pods 250] [--pairs 10000]

Resident memory is VmRSS of /proc/PID/status. Each tenth of the pairs is told, so that growth would be seen.
"""

import argparse
import itertools
import os
import time
from pathlib import Path

from bench.cni import Bench, prepared
from bench.report import circumstances
from bench.sandbox import enter
from bench.spawn import run

_TENTHS = 10
_QUIET_S = 1.0
_IN_TURN = 32
"""Namespaces: a link's name is free again a moment after its DEL."""


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=250)
    parser.add_argument("--pairs", type=int, default=10_000)
    given = parser.parse_args()
    enter("bench.soak")
    about = circumstances()
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    with prepared() as bench:
        print(f"without pods: {_state(bench)}", flush=True)
        with bench.pods(given.pods) as pods:
            for pod in pods:
                run(bench.dual.call("ADD", pod), bench.output)
            print(f"with {given.pods} pods of both families: {_state(bench)}", flush=True)
            for pod in pods:
                run(bench.dual.call("DEL", pod), bench.output)
        with bench.pods(_IN_TURN) as pods:
            for tenth in range(_TENTHS):
                began = time.perf_counter()
                for _, pod in zip(range(given.pairs // _TENTHS), itertools.cycle(pods), strict=False):
                    run(bench.ours.call("ADD", pod), bench.output)
                    run(bench.ours.call("DEL", pod), bench.output)
                each_ms = (time.perf_counter() - began) / (given.pairs // _TENTHS) * 1e3
                done = given.pairs // _TENTHS * (tenth + 1)
                print(f"after {done:6} pairs: {_state(bench)}, {each_ms:.1f} ms a pair", flush=True)


def _state(bench: Bench) -> str:
    """The agent's memory and descriptors, once it is quiet."""
    time.sleep(_QUIET_S)
    process = Path("/proc") / str(bench.agent)
    (resident,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return f"{int(resident.split()[1]) / 1024:.1f} MiB resident, {len(os.listdir(process / 'fd'))} descriptors"


if __name__ == "__main__":
    main()
