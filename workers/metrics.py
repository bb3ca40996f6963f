"""The metrics of a worker, and the port where Prometheus scrapes them."""

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, get_args

import structlog
from prometheus_client import start_http_server

from shared.line.replies import Described
from shared.redis.server_info import Server
from shared.settings import Settings
from shared.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

MOST_EVENTS = 20
"""Events with metrics of their own, unless DAEGI_METRICS_EVENTS names them."""

VISIBLE_SECONDS = 60.0
"""Seconds for which a worker exports what it saw, as long as a sweep of all events: then another may have seen them."""

_JOB_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_OVERTAKEN_MS = 5000

Outcome = Literal["done", "left", "refused", "failed"]


class WorkerMetrics:
    """The worker's metrics. Every worker exports what it last saw of an event: take the maximum over the workers."""

    def __init__(self, settings: Settings, functions: Iterable[str] = ()) -> None:
        self.registry = metrics = Metrics()
        self._chosen = frozenset(settings.metrics_events)
        self._seen: dict[str, int] = {}
        self._jobs = metrics.counter("daegi_jobs", "Jobs worked on, by what became of them", "function", "outcome")
        self._seconds = metrics.histogram(
            "daegi_job_duration_seconds", "Time a job took", "function", bounds=_JOB_SECONDS
        )
        for function in functions:
            self._seconds.labelled(function)
            for outcome in get_args(Outcome):
                self._jobs.add(0, function, outcome)
        self._depth = metrics.gauge(
            "daegi_queue_depth", "Jobs that wait or are worked on", merge="max", ttl=VISIBLE_SECONDS
        )
        self._repaired = metrics.counter("daegi_repaired_entries", "Entries written back by repair")
        self._people = metrics.counter(
            "daegi_people", "What became of people, since the event began", "event", "what", ttl=VISIBLE_SECONDS
        )
        gauges = {
            "waiting": "People in line",
            "called": "People whose turn it is",
            "absent": "People who stepped aside",
            "tokens": "People who may come in at once",
            "rate": "People let in per second at most",
            "active": "People inside: sessions that have not ended",
            "openings": "People who may be let in now, for the rate and the cap",
            "max_active": "Sessions at once at most, where there is a cap",
            "head_speed": "People per second who leave the front of the line",
            "damaged": "1 while log and line differ and the door is closed",
            "paused": "1 while the event is paused",
            "grace": "1 while nobody is expired, after an interruption of ours",
        }
        self._event = {
            name: metrics.gauge(f"daegi_event_{name}", text, "event", merge="max", ttl=VISIBLE_SECONDS)
            for name, text in gauges.items()
        }
        self._cpu = metrics.counter(
            "daegi_redis_cpu_seconds", "CPU time of Redis's main thread", "node", "mode", ttl=VISIBLE_SECONDS
        )
        self._memory = metrics.gauge("daegi_redis_memory_bytes", "Memory that Redis uses", "node", ttl=VISIBLE_SECONDS)
        self._memory_limit = metrics.gauge(
            "daegi_redis_memory_limit_bytes", "Memory that Redis may use, 0 for any", "node", ttl=VISIBLE_SECONDS
        )

    @contextmanager
    def job(self, function: str) -> Iterator[list[Outcome]]:
        """Times and counts a job, which puts its outcome into the list."""
        began = time.perf_counter()
        outcome: list[Outcome] = []
        try:
            yield outcome
        finally:
            self._seconds.labelled(function).observe(time.perf_counter() - began)
            self._jobs.add(1, function, outcome[0] if outcome else "failed")

    def queue(self, depth: int) -> None:
        """Sets the number of waiting jobs."""
        self._depth.set(depth)

    def repaired(self, entries: int) -> None:
        """Counts the entries that a repair wrote back."""
        self._repaired.add(entries)

    def redis(self, servers: Iterable[Server]) -> None:
        """Sets how busy and how full Redis is."""
        for server in servers:
            self._cpu.set(server.cpu_user, server.address, "user")
            self._cpu.set(server.cpu_system, server.address, "system")
            self._memory.set(server.memory, server.address)
            self._memory_limit.set(server.memory_limit, server.address)

    def exports(self, event_id: str, waiting: int) -> bool:
        """Whether an event with this many people in line has metrics: the longest lines do, or the chosen events."""
        if self._chosen:
            return event_id in self._chosen
        exported = self._exported()
        return event_id in exported or len(exported) < MOST_EVENTS or waiting > min(exported.values())

    def forget(self, event_id: str) -> None:
        """Removes the metrics of an event that has ended or is not among the longest."""
        self._seen.pop(event_id, None)
        for family in (self._people, *self._event.values()):
            family.forget(event_id)

    def event(self, event_id: str, found: Described, *, grace: bool) -> None:
        """Sets the metrics of an event."""
        standing = found.standing
        # The later of two jobs may bring the older answer, and Prometheus takes a counter that falls for a restart.
        if 0 < self._seen.get(event_id, 0) - standing.now < _OVERTAKEN_MS:
            return
        # Checked again: other events may have been exported while this one was read.
        if not self.exports(event_id, standing.waiting):
            return
        exported = self._exported()
        if event_id not in exported and len(exported) >= MOST_EVENTS:
            self.forget(min(exported, key=exported.__getitem__))
        self._seen[event_id] = standing.now
        for name in ("waiting", "tokens", "rate", "head_speed", "damaged", "paused"):
            self._event[name].set(getattr(standing, name), event_id)
        self._event["called"].set(found.called, event_id)
        self._event["active"].set(found.active, event_id)
        self._event["openings"].set(found.openings, event_id)
        if found.max_active is not None:
            self._event["max_active"].set(found.max_active, event_id)
        self._event["absent"].set(found.absent, event_id)
        self._event["grace"].set(grace, event_id)
        for what, total in found.totals.items():
            self._people.set(total, event_id, what)

    def _exported(self) -> dict[str, float]:
        """The length of each line that has metrics of its own."""
        return {event_id: waiting for (event_id,), waiting in list(self._event["waiting"].values.items())}

    @asynccontextmanager
    async def served(self, settings: Settings) -> AsyncIterator[None]:
        """Serves /metrics on a port of its own. If that is taken, the worker runs without metrics."""
        if not settings.worker_metrics_port:
            yield
            return
        try:
            server, thread = start_http_server(settings.worker_metrics_port, settings.host, registry=self.registry)
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
