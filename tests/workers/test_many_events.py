"""More events than one sweep covers: it goes by name, for their order by activity never stands still."""

import random
from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs, open_queue
from shared.line.line import Line
from shared.settings import Settings
from tests.support.settings import HEARTBEAT_TTL
from tests.workers.conftest import Client, redis_now
from workers.context import Tools
from workers.jobs.sweep import PER_SWEEP, sweep
from workers.metrics import WorkerMetrics

EVENTS = {f"event-{number}" for number in range(2 * PER_SWEEP + PER_SWEEP // 2)}


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    queue = server.url.removesuffix("0") + "1"
    return Settings.model_validate({"redis_url": server.url, "jobs_redis_url": queue, "heartbeat_ttl": HEARTBEAT_TTL})


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[ArqRedis]:
    queue = open_queue(settings, timeout=5, max_connections=2)
    yield queue
    await queue.aclose(close_connection_pool=True)


async def asked_for(queue: ArqRedis, job: str) -> list[str]:
    """The events of all the jobs of this name that are queued; the queue is empty after that."""
    payloads = [queued.args[0] for queued in await queue.queued_jobs() if queued.function == job]
    await queue.flushdb()
    return [event for payload in payloads for event in payload["activity"]]


async def everybody_is_active(redis: Client, line: Line) -> None:
    """Activity in every event, in an order of its own."""
    now = await redis_now(redis)
    await redis.zadd(line.keys.events, {event: now - random.randrange(60_000) for event in EVENTS})


async def test_as_many_sweeps_as_it_takes_ask_for_every_event_whatever_happens_in_them(
    redis: Client, queue: ArqRedis, settings: Settings, line: Line, jobs: Jobs
) -> None:
    context = {"tools": Tools(settings, line, jobs, WorkerMetrics(settings))}
    rounds = []
    for _ in range(2):
        asked: list[str] = []
        for _ in range(3):
            await everybody_is_active(redis, line)
            await sweep(context)
            asked += await asked_for(queue, "reap_expired")
        rounds.append(asked)
    for asked in rounds:
        assert len(asked) == len(EVENTS)
        assert set(asked) == EVENTS
