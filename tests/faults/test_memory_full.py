"""Redis's memory is full: nobody can join, those who are there lose nothing, and from Redis 7 on all else goes on."""

import asyncio

import httpx
import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import Client, logged, members, swept, ticket_of
from tests.support.calls import enter, join, leave, redeem, running, status, try_join, try_status
from tests.support.processes import Api, Worker
from tests.support.redis_version import redis_major
from tests.support.refusals import refused, retry_after
from tests.support.settings import CLOSED
from tests.support.waiting import eventually

REDIS_WORDS = ("OOM", "command", "maxmemory", "script", "ERR")

refuses_scripts = pytest.mark.skipif(
    redis_major() < 7, reason="before Redis 7 every script that writes is refused while memory is full"
)


async def fill_memory(redis: Client) -> None:
    await redis.config_set("maxmemory-policy", "noeviction")
    # Any redis-server has more than that from its start.
    await redis.config_set("maxmemory", "1")


async def free_memory(redis: Client) -> None:
    await redis.config_set("maxmemory", "0")


def refused_in_our_words(answer: httpx.Response) -> None:
    refused(answer, 503, "UNAVAILABLE")
    assert not [word for word in REDIS_WORDS if word in answer.text]
    assert retry_after(answer) <= 10


async def test_joins_are_refused_in_our_words_leaves_go_on_and_joins_do_afterwards(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with running(Api(own_server.url)) as http:
        tokens = [(await join(http, event))["waiting_token"] for _ in range(4)]
        await fill_memory(redis)
        for token in tokens[:3]:
            refused_in_our_words(await try_join(http, event))
            assert (await leave(http, token)).json() == {"status": "left"}
        assert await logged(redis, event) == [ticket_of(tokens[3])]
        assert (await http.get("/readyz")).status_code == 200
        await free_memory(redis)

        async def joined() -> bool:
            return (await try_join(http, event)).status_code == 202

        await eventually(joined)
        assert (await status(http, tokens[3]))["position"] == 1


@refuses_scripts
async def test_polls_enters_and_redeems_go_on(own_server: RedisServer, redis: Client, event: str) -> None:
    async with running(Api(own_server.url, admit_rate=1, admit_burst=10)) as http:
        tokens = [(await join(http, event))["waiting_token"] for _ in range(20)]
        await fill_memory(redis)
        for token in tokens[:5]:
            refused_in_our_words(await try_join(http, event))
            stands = await status(http, token)
            assert (stands["approximate"], stands["ready_for_entry"]) == (False, True)
            reservation = (await enter(http, token))["reservation_token"]
            assert (await redeem(http, reservation))["event_id"] == event
        assert (await http.get("/readyz")).json() == {"status": "ok", "redis": "up"}
        assert await logged(redis, event) == [ticket_of(token) for token in tokens[5:]]


async def test_nobody_who_polls_is_expired_for_it(
    own_server: RedisServer, queue_server: RedisServer, redis: Client, event: str
) -> None:
    life = 5
    settings = {"jobs_redis_url": queue_server.url, "heartbeat_ttl": life, "ready_ttl": 1, **CLOSED}
    async with running(Api(own_server.url, **settings)) as http:
        tokens = [(await join(http, event))["waiting_token"] for _ in range(10)]
        tickets = [ticket_of(token) for token in tokens]

        async def everybody_polls(seconds: float) -> None:
            for _ in range(round(seconds * 2)):
                await asyncio.gather(*(try_status(http, token) for token in tokens))
                await asyncio.sleep(0.5)

        with Worker(own_server.url, **settings):
            await everybody_polls(1)
            await fill_memory(redis)
            await everybody_polls(life + 1)
            await free_memory(redis)
            await everybody_polls(3)
            await swept(redis, event)
            assert await logged(redis, event) == await members(redis, event) == tickets
            assert [(await status(http, token))["position"] for token in tokens] == list(range(1, 11))
