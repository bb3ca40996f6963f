"""The metrics that api and workers have in common: their version, and their use of the Redis with the lines."""

import platform
from importlib.metadata import version

from shared.redis.connect import RedisClient
from shared.telemetry.metrics import Metrics


def measure_redis(metrics: Metrics, redis: RedisClient) -> None:
    """Registers these metrics, which are read at each scrape."""
    build = metrics.gauge("daegi_build_info", "Always 1", "version", "python", merge="max")
    build.set(1, version("daegi"), platform.python_version())
    commands = metrics.counter("redis_commands", "Round trips to the Redis with the lines", "operation")
    busy = metrics.gauge("daegi_redis_connections_busy", "Connections to Redis that wait for an answer")
    away = metrics.gauge("daegi_redis_away", "Redis servers (masters) that did not answer the last call", merge="max")

    def look() -> None:
        for operation, trips in redis.trips.items():
            commands.set(trips, operation)
        busy.set(redis.busy)
        away.set(redis.away)

    metrics.on_collect(look)
