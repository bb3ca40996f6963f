"""A slow network before Redis: late answers, and connections that have died without a word. Nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import Client, logged, members, places, ticket_of
from tests.support.calls import enter, join, redeem, running, try_join
from tests.support.connections import open_all_connections
from tests.support.processes import Api, Worker
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused, retry_after
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually

SETTINGS: dict[str, Any] = {"heartbeat_ttl": HEARTBEAT_TTL, "admit_rate": 0, "admit_burst": 5}


@pytest.fixture
async def relay(own_server: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(own_server.port) as opened:
        yield opened


async def test_late_answers_make_people_wait_and_refuse_nobody(
    own_server: RedisServer, redis: Client, relay: Relay, event: str
) -> None:
    urls = {"redis_url": relay.url, "jobs_redis_url": own_server.url}
    with Worker(own_server.url, heartbeat_ttl=HEARTBEAT_TTL):
        api = Api(**urls, **SETTINGS)
        async with running(api) as http:
            await join(http, "another")
            relay.delay = 0.3
            # A hundred callers of httpx would keep this loop busy, and so the relay: answers would be later than meant.
            answers = await crowd(api, [post("/api/v1/queue/join", {"event_id": event})] * 100)
            assert {answer.status_code for answer in answers} == {202}
            joined = [answer.json() for answer in answers]
            tokens = sorted((one["waiting_token"] for one in joined), key=ticket_of)
            assert sorted(one["position_hint"] for one in joined) == list(range(1, 101))
            reservation = (await enter(http, tokens[0]))["reservation_token"]
            assert (await redeem(http, reservation))["event_id"] == event
            assert await logged(redis, event) == await members(redis, event) == [ticket_of(one) for one in tokens[1:]]
            assert (await http.get("/readyz")).json() == {"status": "ok", "redis": "up"}


async def test_people_who_keep_coming_to_a_slow_redis_wait_and_none_is_refused(
    own_server: RedisServer, relay: Relay, event: str
) -> None:
    async with running(Api(relay.url, jobs_redis_url=own_server.url, **SETTINGS)) as http:
        relay.delay = 0.15

        async def come_again() -> None:
            for _ in range(5):
                await join(http, event)

        # There is room for all of them in one batch, however late they are.
        await asyncio.gather(*(come_again() for _ in range(60)))


async def test_answers_later_than_anybody_waits_for_are_refusals_and_nobody_is_twice_in_line(
    own_server: RedisServer, redis: Client, relay: Relay, event: str
) -> None:
    keys = [f"the-key-of-caller-{number:02}" for number in range(20)]
    async with running(Api(relay.url, jobs_redis_url=own_server.url, **SETTINGS)) as http:
        first = await asyncio.gather(*(join(http, event, key=key) for key in keys[:10]))
        # There and back it takes longer than the two seconds in which Redis has to answer.
        relay.delay = 1.5
        for answer in await asyncio.gather(*(try_join(http, event, key=key) for key in keys)):
            refused(answer, 503, "UNAVAILABLE")
            assert retry_after(answer) <= 10
        relay.delay = 0

        async def is_back() -> bool:
            return (await try_join(http, event, key=keys[-1])).status_code == 202

        await eventually(is_back)
        again = await asyncio.gather(*(join(http, event, key=key) for key in keys))
        assert [one["waiting_token"] for one in again[:10]] == [one["waiting_token"] for one in first]
        tokens = sorted((one["waiting_token"] for one in again), key=ticket_of)
        assert await logged(redis, event) == await members(redis, event) == [ticket_of(token) for token in tokens]
        assert await places(http, tokens) == list(range(1, 21))


async def test_dead_connections_are_given_up_within_seconds_and_all_at_once(
    own_server: RedisServer, redis: Client, relay: Relay, event: str
) -> None:
    keys = [f"the-key-of-caller-{number:02}" for number in range(20)]
    async with running(Api(relay.url, jobs_redis_url=own_server.url, **SETTINGS)) as http:
        await open_all_connections(relay, redis, http)
        first = await asyncio.gather(*(join(http, event, key=key) for key in keys[:10]))
        before = relay.connections

        relay.forget()
        # A lane an event: were each of the eight found out alone, the last of them would take 16 s.
        async with asyncio.timeout(12):
            answers = await asyncio.gather(*(try_join(http, f"{event}-{number}") for number in range(20)))
            assert all(answer.status_code in {202, 503} for answer in answers)
            while True:
                again = await asyncio.gather(*(try_join(http, event, key=key) for key in keys))
                if {answer.status_code for answer in again} == {202}:
                    break
                await asyncio.sleep(0.1)

        assert relay.connections > before
        tokens = [answer.json()["waiting_token"] for answer in again]
        assert tokens[:10] == [one["waiting_token"] for one in first]
        assert await logged(redis, event) == sorted(map(ticket_of, tokens))
        assert (await http.get("/readyz")).json()["redis"] == "up"
