"""Round trips to Redis, counted on the wire: two for a single join, a few shared by a crowd, none repeated."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.api.bad_requests import JOIN, STATUS
from tests.support.calls import join, running, status, try_join
from tests.support.connections import open_all_connections
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused
from tests.support.relay import Relay
from tests.support.waiting import eventually


class Wire:
    """An api, the relay between it and Redis, and what goes over it about one event."""

    def __init__(self, relay: Relay, api: Api, http: Any, redis: Redis, event: str) -> None:
        self.relay, self.api, self.http, self.redis, self.event = relay, api, http, redis, event
        self.keys = Keys().event(event)

    def trips(self) -> list[bytes]:
        """Round trips so far that name the event; the pulse goes on beside them."""
        return [bytes(trip) for trip in self.relay.trips if b"{%s}" % self.event.encode() in trip]

    async def heard(self, people: int) -> bool:
        """Whether round trip 2 of so many joins has been served."""
        return bool(await self.redis.zcard(self.keys.heartbeat) == people)


@pytest.fixture
async def wire(redis_server: RedisServer, redis: Redis, event: str) -> AsyncIterator[Wire]:
    async with Relay(redis_server.port, record=True) as relay:
        api = Api(relay.url, jobs_redis_url=redis_server.url)
        async with running(api) as http:
            # The first join teaches Redis the script.
            await open_all_connections(relay, redis, http)
            yield Wire(relay, api, http, redis, event)


async def test_a_join_alone_costs_two_round_trips(wire: Wire) -> None:
    for people in (1, 2, 3):
        await join(wire.http, wire.event)
        await eventually(partial(wire.heard, people))
        trips = wire.trips()
        assert len(trips) == 2 * people
        first, second = trips[-2:]
        assert (first.count(b"\r\nEVALSHA\r\n"), second.count(b"\r\nEVALSHA\r\n")) == (1, 0)
        assert b"\r\nZADD\r\n" in second


async def test_the_caller_waits_for_the_first_of_them_only(wire: Wire) -> None:
    # Round trip 2 begins with the heartbeats; it is kept from Redis.
    wire.relay.holding = b"\r\nZADD\r\n"
    joined = await join(wire.http, wire.event)
    assert joined["position_hint"] == 1

    async def held_up() -> bool:
        return wire.relay.kept > 0

    await eventually(held_up)
    assert await wire.heard(0)
    wire.relay.holding = b""
    await eventually(lambda: wire.heard(1))
    assert len(wire.trips()) == 2


async def test_128_joins_at_once_cost_a_tenth_of_a_round_trip_each(wire: Wire) -> None:
    people = 128 * 8
    # Redis is on another machine.
    wire.relay.delay = 0.002
    for _ in range(8):
        answers = await crowd(wire.api, [post(JOIN, {"event_id": wire.event})] * 128)
        assert {answer.status_code for answer in answers} == {202}
    await eventually(lambda: wire.heard(people))
    trips = wire.trips()
    commands = sum(trip.count(b"\r\n%s\r\n" % name) for trip in trips for name in (b"EVALSHA", b"ZADD", b"ZCARD"))
    assert len(trips) <= 0.1 * people
    assert commands <= 0.15 * people
    assert await wire.redis.xlen(wire.keys.stream) == people


async def test_128_exact_polls_at_once_share_their_round_trips_too(wire: Wire) -> None:
    answers = await crowd(wire.api, [post(JOIN, {"event_id": wire.event})] * 128)
    tokens = [answer.json()["waiting_token"] for answer in answers]
    await eventually(lambda: wire.heard(128))
    before = len(wire.trips())
    asked = [f"GET {STATUS}?token={token} HTTP/1.1\r\nHost: daegi\r\n\r\n".encode() for token in tokens]
    wire.relay.delay = 0.002
    polled = await crowd(wire.api, asked)
    assert sorted(answer.json()["position"] for answer in polled) == list(range(1, 129))
    assert not any(answer.json()["approximate"] for answer in polled)
    assert len(wire.trips()) - before <= 12


async def test_an_enqueue_that_was_never_answered_is_not_sent_again(wire: Wire) -> None:
    wire.relay.held = True
    joining = asyncio.create_task(try_join(wire.http, wire.event))

    async def served() -> bool:
        return bool(await wire.redis.xlen(wire.keys.stream) == 1)

    await eventually(served)
    wire.relay.cut()
    refused(await joining, 503, "UNAVAILABLE")
    wire.relay.held = False

    async def again() -> Any:
        answer = await try_join(wire.http, wire.event)
        return answer.json() if answer.status_code == 202 else None

    # The next one comes second: whoever got no answer has a place, once.
    assert (await eventually(again))["position_hint"] == 2
    assert await wire.redis.xlen(wire.keys.stream) == 2
    assert sum(b"EVALSHA" in trip for trip in wire.trips()) == 2


async def test_connections_that_broke_unnoticed_cost_nobody_their_join(wire: Wire) -> None:
    wire.relay.cut()

    async def joined() -> bool:
        return (await try_join(wire.http, wire.event)).status_code == 202

    await eventually(joined)
    enqueues = sum(b"EVALSHA" in trip for trip in wire.trips())
    assert await wire.redis.xlen(wire.keys.stream) == enqueues


async def test_a_redis_that_lost_its_scripts_gets_them_again_and_nobody_joins_twice(wire: Wire) -> None:
    await wire.redis.script_flush()
    token = (await join(wire.http, wire.event))["waiting_token"]
    assert await wire.redis.xlen(wire.keys.stream) == 1
    await wire.redis.script_flush()
    assert (await status(wire.http, token))["position"] == 1
