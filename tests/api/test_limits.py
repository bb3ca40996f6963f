"""Load: a few connections serve everything, and the excess is refused."""

import asyncio

from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from tests.api.bad_requests import JOIN
from tests.support.calls import join, running, status
from tests.support.connections import open_all_connections
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused, retry_after
from tests.support.relay import Relay


async def test_300_requests_at_once_share_8_connections(event: str) -> None:
    # Nobody else is connected to this Redis.
    with RedisServer() as server:
        assert 2 <= await most_connections(server, event) <= 8


async def most_connections(server: RedisServer, event: str) -> int:
    """How many an api process had open at most while it served three crowds."""
    most = 0
    redis = Redis.from_url(server.url)

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, sum(one["name"] == "daegi-api" for one in await redis.client_list()))
            await asyncio.sleep(0.01)

    api = Api(server.url)
    async with running(api):
        looking = asyncio.create_task(look())
        for attempt in range(3):
            # Many events, for those of one would share a batch anyway.
            bodies = [{"event_id": f"{event}-{attempt}-{i % 60}"} for i in range(300)]
            answers = await crowd(api, [post(JOIN, body) for body in bodies])
            assert {answer.status_code for answer in answers} == {202}
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    await redis.aclose()
    return most


async def test_beyond_max_pending_people_are_refused_and_the_others_served(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with Relay(redis_server.port) as relay:
        api = Api(relay.url, jobs_redis_url=redis_server.url, max_pending=8)
        async with running(api) as http:
            token = (await join(http, event))["waiting_token"]
            await open_all_connections(relay, redis, http)
            relay.held = True
            requests = [post(JOIN, {"event_id": f"{event}-{i}"}) for i in range(40)]
            waiting = [asyncio.create_task(crowd(api, [request])) for request in requests]
            # Redis says nothing, yet all but eight are answered, and whoever asks how the process is.
            while sum(one.done() for one in waiting) < 32:
                await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/readyz")).status_code == 200
            relay.held = False
            answers = [answer for some in await asyncio.gather(*waiting) for answer in some]
            served = [answer for answer in answers if answer.status_code == 202]
            assert len(served) == 8
            for answer in answers:
                if answer not in served:
                    refused(answer, 503, "OVERLOADED")
                    assert retry_after(answer) <= 10
            # There is room again.
            assert (await status(http, token))["position"] == 1
