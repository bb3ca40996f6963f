"""The metrics of a process, kept as plain numbers; prometheus-client only formats them when they are scraped.

Its own counters cost 1.6 us a request, and 4.8 us in its mode for several processes (measured); these cost 0.3 us.
"""

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import structlog
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bucket bounds for durations (s); 0.12 s is promised for a join's p95 (shared/line/DESIGN.md)."""

Labels = tuple[str, ...]


class Family(msgspec.Struct):
    """A metric: its values by label values. `merge` says how those of several processes are combined.

    A value that has not been set for `ttl` seconds is no longer exported.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: Labels = ()
    merge: Literal["sum", "max"] = "sum"
    ttl: float | None = None
    bounds: tuple[float, ...] = ()
    values: dict[Labels, float] = {}
    times: dict[Labels, float] = {}
    buckets: dict[Labels, "Buckets"] = {}

    def add(self, amount: float = 1, *labels: str) -> None:
        """Adds to a value."""
        self.values[labels] = self.values.get(labels, 0) + amount

    def set(self, value: float, *labels: str) -> None:
        """Sets a value."""
        self.values[labels] = float(value)
        if self.ttl:
            self.times[labels] = time.monotonic()

    def forget(self, *labels: str) -> None:
        """Removes the values whose first labels are these."""
        # A copy: in a worker, another thread reads the values.
        for known in list(self.values):
            if known[: len(labels)] == labels:
                self.values.pop(known, None)
                self.times.pop(known, None)

    def forget_old(self) -> None:
        """Removes the values that have outlived their TTL."""
        now = time.monotonic()
        for labels, at in list(self.times.items()):
            if self.ttl and now - at > self.ttl:
                self.values.pop(labels, None)
                self.times.pop(labels, None)

    def labelled(self, *labels: str) -> "Buckets":
        """The buckets of a histogram with these labels; a caller that observes often should keep them."""
        found = self.buckets.get(labels)
        if found is None:
            found = self.buckets[labels] = Buckets(self.bounds, [0] * (len(self.bounds) + 1))
        return found


class Buckets(msgspec.Struct):
    """The buckets of a histogram: how many observations fell into each, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Counts an observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics(Collector):
    """The metrics of one process. With a directory, they are merged with those of the other processes that share it."""

    def __init__(self, directory: Path | None = None) -> None:
        self._families: list[Family] = []
        self._looks: list[Callable[[], None]] = []
        self._directory = directory

    def counter(self, name: str, text: str, *labels: str, ttl: float | None = None) -> Family:
        """A counter, which only grows; its exported name ends with _total."""
        family = self._new(Family("counter", name, text, labels, ttl=ttl))
        if not labels:
            # If a counter first appears with value 1, Prometheus does not see that it has grown.
            family.add(0)
        return family

    def gauge(
        self, name: str, text: str, *labels: str, merge: Literal["sum", "max"] = "sum", ttl: float | None = None
    ) -> Family:
        """A gauge, which goes up and down."""
        return self._new(Family("gauge", name, text, labels, merge, ttl))

    def histogram(self, name: str, text: str, *labels: str, bounds: tuple[float, ...] = SECONDS) -> Family:
        """A histogram of durations or sizes."""
        return self._new(Family("histogram", name, text, labels, bounds=bounds))

    def on_collect(self, look: Callable[[], None]) -> None:
        """Registers a callback for each scrape, which copies what is counted elsewhere."""
        self._looks.append(look)

    async def run(self) -> None:
        """Publishes the metrics to the other processes once a second, if there is a directory for it."""
        failed = False
        while self._directory:
            new = self._directory / f"{os.getpid()}.new"
            try:
                new.write_bytes(msgspec.msgpack.encode(self._current()))
                new.rename(new.with_suffix(".metrics"))
                failed = False
            except OSError as error:
                if not failed:
                    _log.warning("the metrics cannot be written down", error=str(error))
                failed = True
            await asyncio.sleep(1)

    def collect(self) -> Iterator[Metric]:
        """All metrics, for prometheus-client."""
        # Even its own as published: newer numbers here would seem to fall when another process is scraped next.
        processes = _published(self._directory) if self._directory else [self._current()]
        merged: dict[str, Family] = {}
        for families in processes:
            for family in families:
                if family.name in merged:
                    _merge(merged[family.name], family)
                else:
                    merged[family.name] = family
        return map(_write, merged.values())

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self)

    def _current(self) -> list[Family]:
        for look in self._looks:
            look()
        for family in self._families:
            family.forget_old()
        return self._families

    def _new(self, family: Family) -> Family:
        self._families.append(family)
        return family


def _write(family: Family) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, buckets in list(family.buckets.items()):
            histogram.add_metric(labels, _cumulative(buckets), buckets.total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    # A copy: in a worker, another thread reads the values.
    for labels, value in list(family.values.items()):
        metric.add_metric(labels, value)
    return metric


def _merge(into: Family, family: Family) -> None:
    for labels, value in family.values.items():
        known = into.values.get(labels)
        if known is None:
            into.values[labels] = value
        else:
            into.values[labels] = max(known, value) if family.merge == "max" else known + value
    for labels, buckets in family.buckets.items():
        one = into.labelled(*labels)
        one.counts = [a + b for a, b in zip(one.counts, buckets.counts, strict=True)]
        one.total += buckets.total


def _cumulative(buckets: Buckets) -> list[tuple[str, float]]:
    found, reached = [], 0
    for bound, count in zip([*map(str, buckets.bounds), "+Inf"], buckets.counts, strict=True):
        reached += count
        found.append((bound, float(reached)))
    return found


def _published(directory: Path) -> Iterator[list[Family]]:
    for file in sorted(directory.glob("*.metrics")):
        families = msgspec.msgpack.decode(file.read_bytes(), type=list[Family])
        if not _is_alive(int(file.stem)):
            # Counts of a dead process still count, but its gauges mean nothing any more.
            families = [family for family in families if family.kind != "gauge"]
        yield families


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
