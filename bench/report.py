"""Medians, percentiles and what the machine was doing, for people and as one line of JSON."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """What a series of measurements says; milliseconds."""

    median_ms: float
    p95_ms: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Summary":
        """Of wall times in seconds."""
        ordered = sorted(seconds)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        return cls(statistics.median(ordered) * 1e3, p95 * 1e3, len(ordered))

    def __str__(self) -> str:
        return f"median {self.median_ms:.2f} ms, p95 {self.p95_ms:.2f} ms ({self.runs} runs)"


def circumstances() -> dict[str, str]:
    """Commit, load and machine, without which a figure says nothing."""
    commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), capture_output=True, text=True, check=False)
    dirty = subprocess.run(("git", "status", "--porcelain"), capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() + (" with changes" if dirty.stdout.strip() else ""),
        "load": " ".join(f"{one:.2f}" for one in os.getloadavg()),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
    }


def ratio(ours: Summary, reference: Summary) -> float:
    """Ours over the reference's, by medians."""
    return round(ours.median_ms / reference.median_ms, 4)


def as_json(values: Mapping[str, object]) -> str:
    """One line."""
    return json.dumps(dict(values))
