"""What a worker measures, and where it is asked for it."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import structlog
from prometheus_client import start_http_server

from shared.metrics import Metrics
from shared.replies import Described
from shared.settings import Settings

_log = structlog.get_logger(__name__)

MOST_EVENTS = 20
"""Events with metrics of their own, unless DAEGI_METRICS_EVENTS names them."""

_JOB_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

Outcome = Literal["done", "left", "refused", "failed"]


class Measures:
    """The worker's metrics. Every worker tells of an event what it last saw: over workers take the maximum."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = metrics = Metrics()
        self._chosen = frozenset(settings.metrics_events)
        self._waiting: dict[str, int] = {}
        self._jobs = metrics.counter("daegi_jobs", "Jobs worked on, by what became of them", "job", "outcome")
        self._seconds = metrics.histogram("daegi_job_duration_seconds", "Time a job took", "job", bounds=_JOB_SECONDS)
        self._depth = metrics.gauge("daegi_queue_depth", "Jobs that wait", merge="max")
        self._repaired = metrics.counter("daegi_repaired", "Entries written back by repair")
        self._people = metrics.counter("daegi_people", "What became of people, since the event began", "event", "what")
        gauges = {
            "waiting": "People in line",
            "called": "People whose turn it is",
            "absent": "People who stepped aside",
            "tokens": "People who may come in at once",
            "rate": "People let in per second at most",
            "head_speed": "People per second who leave the front of the line",
            "damaged": "1 while log and line differ and the door is closed",
            "paused": "1 while it is",
            "grace": "1 while nobody is expired, after an interruption of ours",
        }
        self._event = {
            name: metrics.gauge(f"daegi_event_{name}", text, "event", merge="max") for name, text in gauges.items()
        }

    @contextmanager
    def job(self, name: str) -> Iterator[list[Outcome]]:
        """Around a job; its outcome is put into the list."""
        began = time.perf_counter()
        outcome: list[Outcome] = []
        try:
            yield outcome
        finally:
            self._seconds.of(name).observe(time.perf_counter() - began)
            self._jobs.add(1, name, outcome[0] if outcome else "failed")

    def queue(self, depth: int) -> None:
        """So many jobs wait."""
        self._depth.set(depth)

    def repaired(self, entries: int) -> None:
        """So many entries were missing."""
        self._repaired.add(entries)

    def wants(self, event_id: str, waiting: int) -> bool:
        """Whether this event, with so many in line, has metrics of its own: the longest lines, or those chosen."""
        if self._chosen:
            return event_id in self._chosen
        self._waiting[event_id] = waiting
        if len(self._waiting) <= MOST_EVENTS:
            return True
        shortest = min(self._waiting, key=self._waiting.__getitem__)
        self.forget(shortest)
        return shortest != event_id

    def forget(self, event_id: str) -> None:
        """This event is no more, or not among the longest."""
        self._waiting.pop(event_id, None)
        for family in (self._people, *self._event.values()):
            for labels in [labels for labels in family.values if labels[0] == event_id]:
                del family.values[labels]

    def event(self, event_id: str, found: Described, *, grace: bool) -> None:
        """How an event stands."""
        standing = found.standing
        for name in ("waiting", "tokens", "rate", "head_speed", "damaged", "paused"):
            self._event[name].set(getattr(standing, name), event_id)
        self._event["called"].set(found.called, event_id)
        self._event["absent"].set(found.absent, event_id)
        self._event["grace"].set(grace, event_id)
        for what, total in found.totals.items():
            self._people.set(total, event_id, what)

    @asynccontextmanager
    async def served(self, settings: Settings) -> AsyncIterator[None]:
        """Answers /metrics on a port of its own; a port that is taken costs the metrics, not the worker."""
        if not settings.worker_metrics_port:
            yield
            return
        try:
            server, thread = start_http_server(settings.worker_metrics_port, settings.host, registry=self.metrics)
        except OSError as error:
            _log.warning("this worker has no metrics", port=settings.worker_metrics_port, error=error.strerror)
            yield
            return
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
