"""Metrics as values and as counters, on a registry of one program's own; the home of `prometheus_client`.

What is known anyway is read when it is asked for (`Gauge`s from a function); what happens is counted when it happens.
Names follow prometheus.io/docs/practices/naming: `tortie_`, base units, `_total`. No label names a pod.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets: an ADD is between 2 ms and its limit of seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric as it is now: a value for each combination of its labels' values."""

    name: str
    help: str
    values: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """Something that is counted as it happens."""

    _counter: Counter

    def add(self, *values: str, amount: float = 1) -> None:
        """One more, or some."""
        (self._counter.labels(*values) if values else self._counter).inc(amount)


@dataclass(frozen=True, slots=True)
class Timed:
    """Something whose duration is measured, in seconds."""

    _histogram: Histogram

    def add(self, seconds: float, *values: str) -> None:
        """It took so long once."""
        (self._histogram.labels(*values) if values else self._histogram).observe(seconds)


class _Read(Collector):
    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for one in self._read():
            family = CounterMetricFamily if one.counter else GaugeMetricFamily
            metric = family(one.name, one.help, labels=one.labels)
            for labels, value in one.values.items():
                metric.add_metric(labels, value)
            yield metric

    def describe(self) -> Iterator[Metric]:
        return iter(())  # so that nothing is read before the program is put together


class Metrics:
    """One program's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        built = Gauge("tortie_build_info", "Which version runs", ["version"], registry=self._registry)
        built.labels(version("tortie")).set(1)

    def counted(self, name: str, text: str, *labels: str) -> Counted:
        """A counter; `_total` is put after its name."""
        return Counted(Counter(name, text, labels, registry=self._registry))

    def timed(self, name: str, text: str, *labels: str, buckets: Sequence[float] = SECONDS) -> Timed:
        """A histogram of seconds."""
        return Timed(Histogram(name, text, labels, buckets=buckets, registry=self._registry))

    def read(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Tell what `read` gives, each time that somebody asks."""
        self._registry.register(_Read(read))

    def text(self) -> tuple[bytes, str]:
        """All of it in Prometheus' format, and what that is called."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
