"""Where an ADD's and a DEL's time goes, step by step, and what a STATUS takes: medians, by the program's named places.

    python -m bench.steps [--runs 60]

The agent notes when a call comes to each place (`cni.faults`); the clock is the one that this process reads before it
executes the plugin and after that has ended. Address and veth pair are made side by side: both count from the record.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cni import ROOT, Bench, Plugin, prepared
from bench.report import circumstances
from bench.sandbox import enter
from bench.spawn import run

PLACES = ROOT / "build" / "bench-places.txt"
STEPS = {
    "ADD": (
        ("exec of the relay, its namespace and socket, until the agent has the call", "exec", "call received"),
        ("the call checked, tombstones looked for", "call received", "add checked"),
        ("the handle locked, what is known looked up, the first record", "add checked", "add recorded"),
        ("  address assigned: one commit, synced", "add recorded", "add assigned"),
        ("  veth pair made, both ends up", "add recorded", "add paired"),
        ("both of them, side by side", "add recorded", "add made"),
        ("addresses and routes on both sides", "add made", "add connected"),
        ("the record, complete", "add connected", "add completed"),
        ("policy in force", "add completed", "add enforced"),
        ("the answer made and sent", "add enforced", "call answered"),
        ("the relay prints it and ends", "call answered", "exit"),
        ("ALL", "exec", "exit"),
    ),
    "DEL": (
        ("exec of the relay, until the agent has the call", "exec", "call received"),
        ("the call checked", "call received", "del checked"),
        ("the handle locked, the record moved into the journal", "del checked", "del journalled"),
        ("link down", "del journalled", "del down"),
        ("out of the policy's sets", "del down", "del dismissed"),
        ("the answer sent", "del dismissed", "call answered"),
        ("the relay ends", "call answered", "exit"),
        ("ALL", "exec", "exit"),
    ),
}
Times = dict[str, int]
_QUIET_S = 0.1
"""Between two calls of STATUS, as there is between runs of the others."""


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    given = parser.parse_args()
    enter("bench.steps")
    PLACES.parent.mkdir(exist_ok=True)
    about = circumstances()
    with prepared(env={"TORTIE_PLACES": str(PLACES)}) as bench:
        edges = [_timed(bench, bench.ours, command, pod) for command, pod in _calls(bench, given.runs)]
        statuses = sorted(run(bench.status.call("STATUS", ""), bench.output) * 1e3 for _ in _pauses(given.runs))
    told = list(_by_call(PLACES))[: len(edges)]
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    for command, steps in STEPS.items():
        calls = [{**times, **edge} for times, (kind, edge) in zip(told, edges, strict=True) if kind == command]
        print(f"\n{command}, {len(calls)} runs: median ms (p95)")
        for words, since, until in steps:
            print(f"  {_summary(calls, since, until)}  {words}")
    told_status = f"{statistics.median(statuses):6.2f} ({statuses[int(0.95 * (len(statuses) - 1))]:5.2f})"
    print(f"\nSTATUS, {len(statuses)} runs\n  {told_status}  ALL")


def _pauses(runs: int) -> Iterator[None]:
    for _ in range(runs):
        time.sleep(_QUIET_S)
        yield


def _calls(bench: Bench, runs: int) -> Iterator[tuple[str, str]]:
    for _ in range(runs):
        with bench.pods(1) as [pod]:
            yield "ADD", pod
            yield "DEL", pod


def _timed(bench: Bench, plugin: Plugin, command: str, pod: str) -> tuple[str, Times]:
    began = time.monotonic_ns()
    run(plugin.call(command, pod), bench.output)
    return command, {"exec": began, "exit": time.monotonic_ns()}


def _by_call(path: Path) -> Iterator[Times]:
    """The places of each call, in order; a call begins where it was received."""
    times: Times = {}
    for line in path.read_text().splitlines():
        place, _, at = line.partition("\t")
        if place == "call received" and times:
            yield times
            times = {}
        times.setdefault(place, int(at))
    if times:
        yield times


def _summary(calls: Sequence[Times], since: str, until: str) -> str:
    spans = sorted((one[until] - one[since]) / 1e6 for one in calls if since in one and until in one)
    if not spans:
        return f"{'-':>14}"
    return f"{statistics.median(spans):6.2f} ({spans[int(0.95 * (len(spans) - 1))]:5.2f})"


if __name__ == "__main__":
    main()
