"""One worker sweeps at a time, under a lease that nobody takes to the grave."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from tests.support.processes import Worker
from tests.support.redis_version import script_in_force
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join, redis_now

LEASE_MS = 6000


@pytest.fixture
def queue_server() -> Iterator[RedisServer]:
    """A Redis of its own for the job queue."""
    with RedisServer() as server:
        yield server


async def lease(redis: Client) -> tuple[str, int]:
    """Who holds the lease ('' for nobody), and since when."""
    worker, since = await redis.hmget("sweep", "worker", "since")
    return worker or "", int(since or 0)


async def stuck(redis: Client) -> bool:
    """Whether somebody holds it and does not give it back: a sweep that nothing holds up takes milliseconds."""
    before = await lease(redis)
    await asyncio.sleep(0.2)
    return before[0] != "" and before == await lease(redis)


async def swept(redis: Client) -> bool:
    """Whether there was a sweep."""
    return (await lease(redis))[1] > 0


async def test_sweeps_that_last_longer_than_the_time_between_two_do_not_overlap(
    server: RedisServer, redis: Client
) -> None:
    begun: list[int] = []

    async def three_sweeps() -> bool:
        _, since = await lease(redis)
        if since not in begun:
            begun.append(since)
        return len(begun) == 4

    async with Relay(server.port) as relay:
        slow = {"jobs_redis_url": server.url, "heartbeat_ttl": HEARTBEAT_TTL}
        with Worker(relay.url, **slow), Worker(relay.url, **slow):
            await eventually(lambda: swept(redis))
            # A sweep is three calls: the lease is held for four times this, and a tick comes every second.
            relay.delay = 0.35
            await eventually(three_sweeps, 30)
    # One that was begun before it became slow may be among them.
    assert all(later - earlier >= 1400 for earlier, later in pairwise(begun[1:]))


async def test_the_lease_of_a_worker_killed_in_its_sweep_passes_on(
    server: RedisServer, redis: Client, line: Line, event: str
) -> None:
    [ticket] = await join(line, event)
    async with Relay(server.port) as relay:
        with Worker(relay.url, jobs_redis_url=server.url, heartbeat_ttl=HEARTBEAT_TTL) as killed:
            await eventually(lambda: swept(redis))
            relay.trap = script_in_force("begin_sweep").sha.encode()
            await eventually(lambda: stuck(redis))
            killed.kill()
    dead, since = await lease(redis)
    assert dead
    await redis.delete(line.keys.event(event).queue)

    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL):

        async def repaired() -> bool:
            return await in_line(redis, line, event) == [ticket]

        await eventually(repaired)
        assert (await lease(redis))[1] - since >= LEASE_MS


async def test_a_sweep_that_the_queue_fails_gives_its_lease_back(
    server: RedisServer, queue_server: RedisServer, redis: Client, line: Line, event: str
) -> None:
    await join(line, event)
    async with Relay(server.port) as relay:
        with Worker(relay.url, jobs_redis_url=queue_server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
            await eventually(lambda: swept(redis))
            relay.trap = script_in_force("begin_sweep").sha.encode()
            await eventually(lambda: stuck(redis))
            _, since = await lease(redis)
            queue_server.pause()
            relay.trap, relay.held = b"", False

            async def given_back() -> bool:
                return (await lease(redis))[0] == ""

            await eventually(given_back)
            assert await redis_now(redis) - since < LEASE_MS
            queue_server.resume()
            assert worker.process.poll() is None
