"""Door grace begins in time: with the first poll after an interruption, which may overtake the first pulse."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.support.calls import join, running, status, try_status
from tests.support.processes import Api
from tests.support.relay import Relay
from tests.support.waiting import eventually

READY_TTL = 3.0
# Above it, and above the three seconds between two pulses that are too many.
STOPPED = 4.5


async def called_and_absent(server: RedisServer, event: str) -> tuple[int, int]:
    async with Redis.from_url(server.url) as redis:
        keys = Keys().event(event)
        return await redis.zcard(keys.called), await redis.zcard(keys.absent)


async def between_two_pulses(server: RedisServer) -> None:
    """An answer that a process was waiting for when it was stopped would look like an outage to it."""
    async with Redis.from_url(server.url) as redis:
        before = await redis.zrange(Keys().pulse, 0, -1, withscores=True)

        async def another() -> bool:
            return bool(await redis.zrange(Keys().pulse, 0, -1, withscores=True) != before)

        await eventually(another)
    await asyncio.sleep(0.3)


async def people(http: Any, event: str) -> str:
    """Five people whose turn it would be, and one behind them, whose token it is."""
    for _ in range(5):
        await join(http, event)
    return str((await join(http, event))["waiting_token"])


async def test_people_who_were_silent_while_the_process_was_stopped_are_called(
    own_server: RedisServer, event: str
) -> None:
    async with Relay(own_server.port) as relay:
        api = Api(relay.url, jobs_redis_url=own_server.url, ready_ttl=READY_TTL, heartbeat_ttl=60)
        async with running(api) as http:
            token = await people(http, event)
            await between_two_pulses(own_server)
            api.pause()
            await asyncio.sleep(STOPPED)
            # The poll is there when it wakes up, and the pulse takes its time.
            poll = asyncio.create_task(status(http, token))
            await asyncio.sleep(0.2)
            relay.holding = b"\r\npulse\r\n"
            api.resume()
            await poll
            assert await called_and_absent(own_server, event) == (6, 0)
            relay.holding = b""


async def test_people_who_were_silent_while_redis_was_stopped_are_called(own_server: RedisServer, event: str) -> None:
    async with running(Api(own_server.url, ready_ttl=READY_TTL, heartbeat_ttl=60)) as http:
        token = await people(http, event)
        own_server.pause()
        await asyncio.sleep(STOPPED)
        own_server.resume()

        async def answered() -> bool:
            return (await try_status(http, token)).status_code == 200

        await eventually(answered)
        assert await called_and_absent(own_server, event) == (6, 0)


async def test_people_who_were_silent_while_nothing_was_stopped_step_aside(own_server: RedisServer, event: str) -> None:
    async with running(Api(own_server.url, ready_ttl=READY_TTL, heartbeat_ttl=60)) as http:
        token = await people(http, event)
        await asyncio.sleep(STOPPED)
        await status(http, token)
        assert await called_and_absent(own_server, event) == (1, 5)
