"""The job queue's Redis is away for longer than a heartbeat life: people notice nothing, and nobody is lost."""

import asyncio
from typing import Any

import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, swept, ticket_of
from tests.support.calls import configure, enter, join, leave, redeem, running, status
from tests.support.processes import Api, Worker
from tests.support.waiting import eventually

SHORT: dict[str, Any] = {"heartbeat_ttl": 5, "ready_ttl": 1}
AWAY = 6.0


@pytest.mark.parametrize("how", ["hangs", "gone"])
async def test_people_join_are_called_enter_and_leave_as_ever(
    own_server: RedisServer, queue_server: RedisServer, redis: Client, event: str, how: str
) -> None:
    urls = {"redis_url": own_server.url, "jobs_redis_url": queue_server.url}
    with Worker(**urls, **SHORT) as worker:
        async with running(Api(**urls, **SHORT)) as http:
            await configure(http, event, rate=0, burst=0)
            tokens = [(await join(http, event))["waiting_token"] for _ in range(10)]
            await swept(redis, event)
            queue_server.pause() if how == "hangs" else queue_server.kill()
            began = asyncio.get_running_loop().time()
            turn = 0
            while asyncio.get_running_loop().time() < began + AWAY:
                turn += 1
                newcomer = (await join(http, event))["waiting_token"]
                # Nobody publishes an index any more, and every place is exact all the same.
                stands = [await status(http, token) for token in [*tokens, newcomer]]
                assert [one["position"] for one in stands] == list(range(1, 12))
                assert not any(one["approximate"] for one in stands)
                assert (await leave(http, newcomer)).status_code == 200
                await asyncio.sleep(0.2)
            assert turn > 3
            await configure(http, event, rate=10, burst=20)
            for token in tokens[:5]:

                async def is_ready(token: str = token) -> bool:
                    return bool((await status(http, token))["ready_for_entry"])

                await eventually(is_ready)
                reservation = (await enter(http, token))["reservation_token"]
                assert (await redeem(http, reservation))["event_id"] == event
            await configure(http, event, paused=True)
            queue_server.resume() if how == "hangs" else queue_server.restart()

            await swept(redis, event, 2)
            await asyncio.gather(*(status(http, token) for token in tokens[5:]))
            left = [ticket_of(token) for token in tokens[5:]]
            assert await logged(redis, event) == await members(redis, event) == left
            assert await redis.hget(KEYS.event(event).state, "expired") is None
            assert worker.process.poll() is None
