"""The metrics of the ingress. Requests are counted as they are answered, the rest is read at each scrape."""

from api.http.slow_readers import SlowReaders
from api.serving.load_shedding import PendingLimit
from api.serving.position_cache import PositionCache
from api.serving.pulse import Pulse
from api.serving.worker_outbox import WorkerOutbox
from shared.telemetry.metrics import Buckets, Metrics


class Traffic:
    """Requests by endpoint and status, and the seconds from reading the head to the finished answer."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram("http_request_duration_seconds", "Time until the answer is ready", "endpoint")
        self._requests = metrics.counter("http_requests", "Requests answered", "endpoint", "status")
        self._buckets: dict[str, Buckets] = {}
        self._answers: dict[tuple[str, int], int] = {}
        metrics.on_collect(self._look)

    def observe(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        buckets = self._buckets.get(endpoint)
        if buckets is None:
            buckets = self._buckets[endpoint] = self._seconds.labelled(endpoint)
        buckets.observe(seconds)
        answer = endpoint, status
        self._answers[answer] = self._answers.get(answer, 0) + 1

    def _look(self) -> None:
        for (endpoint, status), count in self._answers.items():
            self._requests.set(count, endpoint, str(status))


def measure_ingress(
    metrics: Metrics,
    pending: PendingLimit,
    pulse: Pulse,
    outbox: WorkerOutbox,
    positions: PositionCache,
    *,
    slow_readers: SlowReaders,
) -> None:
    """Registers the metrics of the ingress's state, which is read at each scrape."""
    shed = metrics.counter("daegi_shed_requests", "Requests refused because too many waited")
    dropped = metrics.counter("daegi_slow_readers_dropped", "Streams ended because their client did not read")
    waiting = metrics.gauge("daegi_pending_requests", "Requests that wait for their answer")
    held = metrics.gauge("daegi_heartbeats_held", "Heartbeats in memory, not sent to the workers yet")
    lag = metrics.gauge("daegi_heartbeat_lag_seconds", "Age of the oldest heartbeat held in memory", merge="max")
    grace = metrics.gauge(
        "daegi_door_grace", "1 while the silent are called too, after an absence of ours", merge="max"
    )
    age = metrics.gauge(
        "daegi_index_age_seconds", "Age of the oldest position index that people far back are placed by", merge="max"
    )

    def look() -> None:
        shed.set(pending.refused)
        dropped.set(slow_readers.dropped)
        waiting.set(pending.waiting)
        held.set(outbox.held)
        lag.set(outbox.lag())
        grace.set(pulse.grace)
        age.set(positions.index_age())

    metrics.on_collect(look)
