"""Every ingress process asks every second for the index of every event it saw: Redis is asked once a second."""

import time

from shared.jobs import Jobs
from shared.line.line import Line
from shared.settings import Settings
from tests.workers.conftest import Client, join
from workers.context import Tools
from workers.jobs.positions import compute_positions
from workers.metrics import WorkerMetrics

EVENTS = ("first", "second", "third")
PROCESSES = 20


async def scripts_called(redis: Client) -> int:
    """Since the server started."""
    stats = await redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def test_many_who_ask_for_the_same_indexes_cost_redis_one_call_each_second(
    redis: Client, settings: Settings, line: Line, jobs: Jobs
) -> None:
    for event in EVENTS:
        await join(line, event, 5)
    context = {"tools": Tools(settings, line, jobs, WorkerMetrics(settings))}
    asked = {"v": 1, "events": list(EVENTS)}
    await compute_positions(context, asked)
    before, began = await scripts_called(redis), time.monotonic()

    for _ in range(PROCESSES):
        await compute_positions(context, asked)

    seconds = int(time.monotonic() - began) + 1
    assert await scripts_called(redis) - before <= seconds * len(EVENTS) < PROCESSES * len(EVENTS)


async def test_an_index_is_published_again_once_it_is_a_second_old(settings: Settings, line: Line, jobs: Jobs) -> None:
    await join(line, "first", 5)
    context = {"tools": Tools(settings, line, jobs, WorkerMetrics(settings))}
    published: set[int] = set()
    until = time.monotonic() + 10
    while len(published) < 2 and time.monotonic() < until:
        await compute_positions(context, {"v": 1, "events": ["first"]})
        index = await line.index("first")
        assert index is not None
        published.add(index.standing.now)
    assert len(published) == 2
    assert max(published) - min(published) >= 1000
