"""Polls from memory count as heartbeats, which reach Redis a second later, with or without the job queue."""

from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from tests.support.calls import configure, running, try_status
from tests.support.line_state import fill
from tests.support.polling import Crowd, from_memory, now_ms, publishing
from tests.support.ports import free_port
from tests.support.processes import Api, Worker
from tests.support.waiting import eventually

PEOPLE = 2000


@pytest.mark.parametrize("job_queue", ["there", "away"])
async def test_a_poll_in_the_second_half_of_its_lease_is_a_heartbeat(
    redis_server: RedisServer, redis: Redis, live_line: Line, event: str, job_queue: str
) -> None:
    heartbeats = Keys().event(event).heartbeat
    jobs = redis_server.url if job_queue == "there" else f"redis://{LOCALHOST}:{free_port()}/0"
    async with AsyncExitStack() as stack:
        if job_queue == "there":
            stack.enter_context(Worker(redis_server.url))
        http = await stack.enter_async_context(running(Api(redis_server.url, jobs_redis_url=jobs)))
        await configure(http, event, rate=0, burst=0)
        crowd = Crowd(event, await fill(live_line, event, PEOPLE))
        await stack.enter_async_context(publishing(live_line, event))
        await from_memory(http, crowd.token(PEOPLE))
        # A lease lasts 75 s: one person polls in its first half, one in its second, and one who has just left.
        early, late, gone = 1500, 1600, 1700
        now = await now_ms(redis)
        long_ago = now - 200_000
        await live_line.leave(event, [crowd.tickets[gone - 1]])

        async def polled_from_memory() -> bool:
            """Once more if a stall made the index stale: an exact poll is a heartbeat by itself."""
            await redis.zadd(heartbeats, {str(crowd.tickets[place - 1]): long_ago for place in (early, late)})
            ages = {early: 20_000, late: 50_000, gone: 50_000}
            answers = [(await try_status(http, crowd.token(place, now - age))).json() for place, age in ages.items()]
            return all(answer.get("approximate") for answer in answers)

        await eventually(polled_from_memory)

        async def heard() -> bool:
            return (await redis.zscore(heartbeats, crowd.tickets[late - 1])) > now - 60_000

        await eventually(heard)
        # The exact poll that proved a lease is heartbeat enough for its first half; who has gone stays gone.
        assert await redis.zscore(heartbeats, crowd.tickets[early - 1]) == long_ago
        assert await redis.zscore(heartbeats, crowd.tickets[gone - 1]) is None
