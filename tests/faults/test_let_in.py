"""Something is away for longer than a heartbeat life: whoever was let in and has not redeemed comes in all the same."""

import asyncio
from typing import Any

import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, swept, ticket_of
from tests.support.calls import client, enter, join, redeem, running, try_enter, try_redeem, try_status
from tests.support.processes import Api, Worker
from tests.support.refusals import refused
from tests.support.waiting import eventually

SHORT: dict[str, Any] = {"heartbeat_ttl": 5, "ready_ttl": 1, "pass_ttl": 2}
AWAY = 8.0
"""Longer than a reservation is remembered when all is well: a life and a pass."""


@pytest.mark.parametrize("what", ["redis", "redis, and no worker comes back", "every ingress"])
async def test_whoever_was_let_in_comes_in_after_an_outage(
    own_server: RedisServer, redis: Client, event: str, what: str
) -> None:
    api = Api(own_server.url, **SHORT)
    with Worker(own_server.url, **SHORT) as worker:
        async with running(api) as http:
            token = (await join(http, event))["waiting_token"]
            lapsed = (await enter(http, token))["reservation_token"]
            await swept(redis, event)

            if what == "every ingress":
                api.kill()
                await asyncio.sleep(AWAY)
                await asyncio.to_thread(api.start)
            else:
                own_server.kill()
                if what != "redis":
                    worker.kill()
                await asyncio.sleep(AWAY)
                own_server.restart()
            async with client(api.url) as again:

                async def it_is_back() -> bool:
                    return (await try_status(again, token)).status_code == 200

                await eventually(it_is_back)
                if what == "redis":
                    # Whether it is a sweep or somebody who comes first, nobody is forgotten.
                    await swept(redis, event)
                refused(await try_redeem(again, lapsed), 404, "RESERVATION_EXPIRED")
                reservation = (await enter(again, token))["reservation_token"]
                assert reservation != lapsed
                await redeem(again, reservation)
                refused(await try_redeem(again, reservation), 409, "ALREADY_REDEEMED")
                refused(await try_redeem(again, lapsed), 409, "ALREADY_REDEEMED")
                refused(await try_enter(again, token), 409, "ALREADY_REDEEMED")
    assert await redis.zrange(KEYS.event(event).admitted, 0, -1) == [str(ticket_of(token))]
    assert await redis.hmget(KEYS.event(event).state, "admitted", "redeemed") == ["1", "1"]
