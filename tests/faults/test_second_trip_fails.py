"""The second round trip of a join fails after the first one went well: the join stands, and what is missing heals."""

import asyncio
from contextlib import ExitStack

import httpx
import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, ticket_of, zadd_of_heartbeats
from tests.support.calls import join, leave, running
from tests.support.processes import Api, Worker
from tests.support.relay import Relay
from tests.support.settings import CLOSED, HEARTBEAT_TTL
from tests.support.waiting import eventually


async def joined_without_heartbeats(relay: Relay, api: Api, http: httpx.AsyncClient, event: str) -> list[str]:
    """Tokens of two people whose second round trip was cut off."""
    relay.holding = zadd_of_heartbeats(event)
    # One after the other, each in a batch: a third one would have to wait for their slots.
    answers = [await join(http, event) for _ in range(2)]

    async def both_kept() -> bool:
        return relay.kept == 2

    await eventually(both_kept)
    relay.cut()
    relay.holding = b""

    async def said() -> bool:
        return api.log().count("heartbeats of a batch are left to repair") == 2

    await eventually(said)
    return [answer["waiting_token"] for answer in answers]


async def heard(redis: Client, event: str) -> list[int]:
    return sorted(map(int, await redis.zrange(KEYS.event(event).heartbeat, 0, -1)))


@pytest.mark.parametrize("when", ["there", "later"])
async def test_the_join_is_answered_and_a_worker_writes_the_heartbeat(
    own_server: RedisServer, redis: Client, event: str, when: str
) -> None:
    worker = Worker(own_server.url, heartbeat_ttl=HEARTBEAT_TTL)
    async with Relay(own_server.port) as relay:
        api = Api(relay.url, jobs_redis_url=own_server.url, heartbeat_ttl=HEARTBEAT_TTL, **CLOSED)
        with ExitStack() as stack:
            async with running(api) as http:
                if when == "there":
                    stack.enter_context(worker)
                tickets = list(map(ticket_of, await joined_without_heartbeats(relay, api, http, event)))
                if when == "later":
                    await asyncio.sleep(1.5)
                    assert await heard(redis, event) == []
                    stack.enter_context(worker)

                async def repaired() -> bool:
                    return await heard(redis, event) == tickets

                await eventually(repaired)
                assert await logged(redis, event) == await members(redis, event) == tickets
                # This, too, was in the part that was lost: what is not listed is never swept.
                assert await redis.zscore(KEYS.events, event) is not None


async def test_repair_brings_nobody_back_who_left_meanwhile(own_server: RedisServer, redis: Client, event: str) -> None:
    async with Relay(own_server.port) as relay:
        api = Api(relay.url, jobs_redis_url=own_server.url, heartbeat_ttl=HEARTBEAT_TTL, **CLOSED)
        async with running(api) as http:
            stays, leaves = await joined_without_heartbeats(relay, api, http, event)

            async def left() -> bool:
                return (await leave(http, leaves)).status_code == 200

            await eventually(left)
            with Worker(own_server.url, heartbeat_ttl=HEARTBEAT_TTL):

                async def repaired() -> bool:
                    return await heard(redis, event) == [ticket_of(stays)]

                await eventually(repaired)
            assert await logged(redis, event) == await members(redis, event) == [ticket_of(stays)]
