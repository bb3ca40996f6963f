"""The job queue while no worker runs: what nobody will do any more does not pile up, and is not counted as waiting."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.jobs import EXPIRES_MS, Jobs, queue_name
from shared.settings import Settings

MINUTE = 60_000


class Clock:
    """The hosts' clock, which tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("arq.connections", "shared.jobs"):
        monkeypatch.setattr(f"{module}.timestamp_ms", clock)
    return clock


@pytest.fixture
async def jobs(redis_server: RedisServer) -> AsyncIterator[Jobs]:
    jobs = Jobs(Settings.model_validate({"redis_url": redis_server.url}))
    yield jobs
    await jobs.close()


async def test_their_ids_do_not_pile_up_while_no_worker_runs(clock: Clock, redis: Redis, jobs: Jobs) -> None:
    name, sizes = queue_name(Settings()), []
    for _ in range(6 * 60):
        await jobs.compute_positions(["concert"])
        sizes.append(await redis.zcard(name))
        clock.now += 10_000
    # Ten minutes of them, and what came since somebody looked.
    assert max(sizes) <= 10 * 6 + 6
    assert sizes[-1] >= 9 * 6


async def test_those_that_nobody_will_do_do_not_count_as_waiting(clock: Clock, redis: Redis, jobs: Jobs) -> None:
    for _ in range(3):
        await jobs.compute_positions(["concert"])
    assert await jobs.waiting() == 3
    clock.now += EXPIRES_MS
    await jobs.compute_positions(["concert"])
    assert await jobs.waiting() == 4
    clock.now += 1
    assert await jobs.waiting() == 1
    assert await redis.zcard(queue_name(Settings())) == 4


@pytest.mark.parametrize("minutes", [-9, 9])
async def test_a_clock_that_differs_removes_nothing_that_waits(
    clock: Clock, jobs: Jobs, redis: Redis, redis_server: RedisServer, minutes: int
) -> None:
    await jobs.compute_positions(["concert"])
    other = Jobs(Settings.model_validate({"redis_url": redis_server.url}))
    clock.now += minutes * MINUTE
    await other.compute_positions(["concert"])
    await other.close()
    assert await redis.zcard(queue_name(Settings())) == 2


async def test_a_clock_that_jumped_back_stops_nothing(clock: Clock, redis: Redis, jobs: Jobs) -> None:
    await jobs.compute_positions(["concert"])
    clock.now -= 600 * MINUTE
    await jobs.compute_positions(["concert"])
    clock.now += 11 * MINUTE
    await jobs.compute_positions(["concert"])
    # That of the time ahead is as good as new.
    assert await redis.zcard(queue_name(Settings())) == 2


async def test_a_user_who_may_not_remove_them_is_served_as_ever(
    redis: Redis, redis_server: RedisServer, clock: Clock
) -> None:
    await redis.execute_command("ACL", "SETUSER", "old", "on", ">pw", "~*", "+@all", "-zcount", "-zremrangebyscore")
    url = redis_server.url.replace("redis://", "redis://old:pw@")
    jobs = Jobs(Settings.model_validate({"redis_url": url}))
    await jobs.compute_positions(["concert"])
    clock.now += 11 * MINUTE
    await jobs.compute_positions(["concert"])
    assert await jobs.waiting() == 2
    await jobs.close()
    await redis.execute_command("ACL", "DELUSER", "old")
