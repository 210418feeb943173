"""python -m tests.simulation [--seeds 1000] [--seed0 0] [--jobs 2]      many seeds
   python -m tests.simulation --seed 17 [--trace]                         one, replayed, with everything that happens

The last line is `N seeds, V violations`; the exit status is 1 if there were any.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator

from tests.simulation.seeds import Outcome, run_seed

_CHUNK = 20
_TELL_EVERY_S = 10.0


def main() -> int:
    """Run what the command line says; gives the exit status."""
    given = _parser().parse_args()
    if given.seed is not None:
        return _told(1, [_replayed(given.seed, given.trace)])
    began = time.monotonic()
    violated = []
    for count, outcome in enumerate(outcomes(range(given.seed0, given.seed0 + given.seeds), given.jobs), 1):
        if outcome.violations:
            violated.append(outcome)
            print(f"seed {outcome.seed}: {outcome.violations[0]}", flush=True)
        if time.monotonic() - began > _TELL_EVERY_S * (_told_times[0] + 1):
            _told_times[0] += 1
            rate = count / (time.monotonic() - began)
            print(f"{count} seeds, {len(violated)} violations so far, {rate:.0f} seeds/s", file=sys.stderr)
    return _told(given.seeds, violated)


_told_times = [0]


def outcomes(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """What seeds come to, in any order, on so many processors."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_seed, seeds, _CHUNK)


def _replayed(seed: int, trace: bool) -> Outcome:
    outcome = run_seed(seed, trace=trace)
    for line in outcome.trace:
        print(line)
    for violation in outcome.violations:
        print(f"seed {seed}: {violation}")
    return outcome


def _told(seeds: int, outcomes: list[Outcome]) -> int:
    violations = sum(1 for outcome in outcomes if outcome.violations)
    print(f"{seeds} seeds, {violations} violations", flush=True)
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--seed0", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
