"""Door grace: people who may be silent because of us are called anyway; people silent on their own step aside."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.support.calls import configure, join, running, status
from tests.support.polling import now_ms
from tests.support.processes import Api
from tests.support.redis_monitor import Monitor
from tests.support.settings import OPERATOR
from tests.support.waiting import eventually

# No other process's pulse counts for these.
PREFIX = "pulse-tests:"
KEYS = Keys(PREFIX)


@pytest.fixture
async def line(redis_server: RedisServer, redis: Redis) -> AsyncIterator[Line]:
    settings = Settings.model_validate({"redis_url": redis_server.url, "key_prefix": PREFIX})
    client = connect(settings, "daegi-tests")
    yield Line(client, settings)
    await client.aclose()


async def outcome(http: httpx.AsyncClient, redis: Redis, event: str) -> dict[str, int]:
    """What becomes of somebody silent for long at the head of a line when the person behind them polls."""
    await configure(http, event, rate=1, burst=10, paused=True)
    silent = (await join(http, event))["waiting_token"]
    poller = (await join(http, event))["waiting_token"]
    ticket = silent.split("~")[2]
    heartbeats = KEYS.event(event).heartbeat
    await eventually(lambda: redis.zscore(heartbeats, ticket))
    await redis.zadd(heartbeats, {ticket: await now_ms(redis) - 100_000})
    await configure(http, event, paused=False)
    assert (await status(http, poller))["ready_for_entry"] is True
    found: Any = (await http.get(f"/api/v1/admin/events/{event}", headers=OPERATOR)).json()
    return {"called": found["called"], "absent": found["absent"]}


CALLED, STEPPED_ASIDE = {"called": 2, "absent": 0}, {"called": 1, "absent": 1}


async def test_a_process_that_starts_alone_calls_the_silent_and_one_in_company_does_not(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    first, second = (Api(redis_server.url, key_prefix=PREFIX) for _ in range(2))
    async with running(first) as alone:
        assert await outcome(alone, redis, f"{event}-1") == CALLED
        async with running(second) as in_company:
            assert await outcome(in_company, redis, f"{event}-2") == STEPPED_ASIDE
            assert await redis.zcard(KEYS.pulse) == 2


async def test_a_process_pulses_once_a_second_even_when_nobody_polls_and_deregisters(
    redis_server: RedisServer, redis: Redis
) -> None:
    api = Api(redis_server.url, key_prefix=PREFIX)
    with api:
        pulses = set()

        async def three_pulses() -> bool:
            pulses.update(await redis.zrange(KEYS.pulse, 0, -1, withscores=True))
            return len(pulses) >= 3

        await eventually(three_pulses)
        # One process under one name.
        assert len({name for name, _ in pulses}) == 1
        assert api.stop() == 0
    assert await redis.zcard(KEYS.pulse) == 0


async def test_pulses_go_on_after_an_error_that_nobody_expected(redis_server: RedisServer, redis: Redis) -> None:
    api = Api(redis_server.url, key_prefix=PREFIX)
    async with running(api):
        await eventually(lambda: redis.zcard(KEYS.pulse))
        await redis.delete(KEYS.pulse)
        await redis.set(KEYS.pulse, "not what it should be")
        async with Monitor(redis_server.url) as monitor:

            async def tried_again() -> bool:
                tries = [one for one in await monitor.commands() if one.startswith("EVALSHA") and KEYS.pulse in one]
                return len(tries) >= 2

            await eventually(tried_again)
        await redis.delete(KEYS.pulse)
        await eventually(lambda: redis.zcard(KEYS.pulse))
        assert api.log().count("no pulse") == 1
