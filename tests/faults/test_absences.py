"""Something is away for longer than a heartbeat life. That costs nobody their place; people's own silence does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, swept, ticket_of
from tests.support.calls import client, join, running, status, try_status
from tests.support.processes import Api, Worker
from tests.support.settings import CLOSED
from tests.support.waiting import eventually

SHORT: dict[str, Any] = {"heartbeat_ttl": 5, "ready_ttl": 1, **CLOSED}
AWAY = 5.5


@asynccontextmanager
async def polling(http: httpx.AsyncClient, tokens: list[str], every: float = 0.5) -> AsyncIterator[None]:
    """These people poll meanwhile, and bear with errors."""

    async def poll() -> None:
        while True:
            for token in tokens:
                await try_status(http, token)
            await asyncio.sleep(every)

    task = asyncio.create_task(poll())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def only_these_are_left(redis: Client, event: str, tokens: list[str]) -> None:
    """Waits until all others have expired, and sees that these don't."""
    wanted = [ticket_of(token) for token in tokens]

    async def all_others_are_gone() -> bool:
        return await logged(redis, event) == wanted

    # A slow machine may look like another outage, which begins another grace.
    await eventually(all_others_are_gone, 40)
    await swept(redis, event)
    assert await logged(redis, event) == await members(redis, event) == wanted


@pytest.mark.parametrize("what", ["workers", "queue"])
async def test_nobody_is_lost_while_it_is_away_and_later_the_silent_are(
    own_server: RedisServer, queue_server: RedisServer, redis: Client, event: str, what: str
) -> None:
    urls = {"redis_url": own_server.url, "jobs_redis_url": queue_server.url}
    with Worker(**urls, **SHORT) as worker:
        async with running(Api(**urls, **SHORT)) as http:
            tokens = [(await join(http, event))["waiting_token"] for _ in range(12)]
            everybody = [ticket_of(token) for token in tokens]
            async with polling(http, tokens[::2]):
                await swept(redis, event)
                if what == "workers":
                    worker.kill()
                else:
                    queue_server.kill()
                await asyncio.sleep(AWAY)
                if what == "workers":
                    worker.start()
                else:
                    queue_server.restart()

                await swept(redis, event, 2)
                assert await logged(redis, event) == await members(redis, event) == everybody
                await only_these_are_left(redis, event, tokens[::2])
            assert worker.process.poll() is None


async def test_nobody_is_lost_while_every_ingress_is_away_and_later_the_silent_are(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    api = Api(own_server.url, **SHORT)
    with Worker(own_server.url, **SHORT):
        async with running(api) as http:
            tokens = [(await join(http, event))["waiting_token"] for _ in range(12)]
            everybody = [ticket_of(token) for token in tokens]
            await swept(redis, event)
            # Heard just now, however long that took: what follows is longer than their life all the same.
            await asyncio.gather(*(status(http, token) for token in tokens))
            api.kill()
            await asyncio.sleep(AWAY)
            assert await logged(redis, event) == await members(redis, event) == everybody

            await asyncio.to_thread(api.start)

            async with client(api.url) as again, polling(again, tokens[::2]):
                await swept(redis, event, 2)
                assert await logged(redis, event) == everybody
                await only_these_are_left(redis, event, tokens[::2])


async def test_one_person_polling_now_and_then_does_not_stop_the_expiry_of_the_others(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    with Worker(own_server.url, **SHORT):
        async with running(Api(own_server.url, **SHORT)) as http:
            tokens = [(await join(http, event))["waiting_token"] for _ in range(12)]
            async with polling(http, tokens[5:6], every=2):
                await only_these_are_left(redis, event, tokens[5:6])
            assert await redis.zscore(KEYS.events, event) is not None
