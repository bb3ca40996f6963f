"""The worker process outlives every outage of either Redis, and works again by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from shared.redis.connect import connect
from shared.redis.node import MAX_CONNECTIONS
from shared.settings import Settings
from tests.support.processes import Worker
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join


@pytest.fixture
def queue_server() -> Iterator[RedisServer]:
    """A Redis of its own for the job queue."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def queue(queue_server: RedisServer) -> AsyncIterator[Client]:
    """A plain client of it."""
    client = Redis.from_url(queue_server.url, decode_responses=True)
    yield client
    await client.aclose()


async def works(line: Line, redis: Client, event_id: str) -> None:
    """Damages a line; returns once a sweep has had it repaired."""
    [ticket] = await join(line, event_id)
    await redis.delete(line.keys.event(event_id).queue)

    async def repaired() -> bool:
        return ticket in await in_line(redis, line, event_id)

    await eventually(repaired, 30)


def unharmed(worker: Worker) -> bool:
    """Whether it is the same process still, and nothing in it went wrong in an unforeseen way."""
    return worker.process.poll() is None and "Traceback" not in worker.log()


async def test_a_worker_starts_without_redis_and_works_once_it_is_there(server: RedisServer, line: Line) -> None:
    server.kill()
    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
        await asyncio.sleep(2)
        assert unharmed(worker)
        assert "the job queue is unavailable" in worker.log()

        server.restart()

        client = Redis.from_url(server.url, decode_responses=True)
        await works(line, client, "an-event")
        await client.aclose()
        assert unharmed(worker)
        assert worker.log().count("the job queue is unavailable") == 1


@pytest.mark.parametrize("fault", ["killed", "paused"])
@pytest.mark.parametrize("which", ["lines", "jobs"])
async def test_a_worker_outlives_an_outage(
    server: RedisServer, queue_server: RedisServer, redis: Client, which: str, fault: str
) -> None:
    settings = Settings.model_validate({"redis_url": server.url, "heartbeat_ttl": HEARTBEAT_TTL})
    client = connect(settings, "daegi-tests")
    line = Line(client, settings)
    hurt = server if which == "lines" else queue_server
    with Worker(server.url, jobs_redis_url=queue_server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
        await works(line, redis, "before")
        if fault == "killed":
            hurt.kill()
            await asyncio.sleep(2.5)
            hurt.restart()
        else:
            hurt.pause()
            # Longer than the worker waits for an answer of this one.
            await asyncio.sleep(2.5 if which == "lines" else 6)
            hurt.resume()

        await works(line, redis, "after")
        assert unharmed(worker)
    await client.aclose()


async def test_a_queue_that_hangs_while_a_job_finishes_does_not_end_the_worker(
    server: RedisServer, queue_server: RedisServer, redis: Client, queue: Client, line: Line
) -> None:
    settings = Settings.model_validate({"redis_url": server.url, "jobs_redis_url": queue_server.url})
    jobs = Jobs(settings)
    await join(line, "in-hand", listed=False)
    async with Relay(server.port) as relay:
        with Worker(relay.url, jobs_redis_url=queue_server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
            await works(line, redis, "before")
            relay.held = True
            await jobs.compute_positions(["in-hand"])

            async def begun() -> bool:
                return bool([key async for key in queue.scan_iter("arq:in-progress:*") if ":sweep:" not in key])

            await eventually(begun)
            queue_server.pause()
            await asyncio.sleep(1)
            # The job goes on to its end, and cannot say so.
            relay.held = False
            await asyncio.sleep(6)
            queue_server.resume()

            await works(line, redis, "after")
            assert unharmed(worker)
    await jobs.close()


async def test_an_outage_of_the_queue_leaves_the_connections_to_the_lines_as_they_are(
    server: RedisServer, queue_server: RedisServer, redis: Client, line: Line
) -> None:
    async def connections() -> set[str]:
        return {one["id"] for one in await redis.client_list() if one["name"] == "daegi-worker"}

    with Worker(server.url, jobs_redis_url=queue_server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
        await works(line, redis, "before")
        before = await connections()
        queue_server.kill()

        async def noticed() -> bool:
            return "the job queue is unavailable" in worker.log()

        await eventually(noticed)
        queue_server.restart()
        await works(line, redis, "after")

        after = await connections()
        assert before
        assert before <= after
        assert len(after) <= MAX_CONNECTIONS
        assert unharmed(worker)
