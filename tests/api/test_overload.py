"""More than an api process can serve: late requests are refused in time, and nobody else notices."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.api.bad_requests import JOIN, STATUS
from tests.support.calls import client, join, leave, running, try_join
from tests.support.connections import open_all_connections
from tests.support.line_state import fill
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.raw_http import crowd, post, read_answer
from tests.support.refusals import refused, retry_after
from tests.support.relay import Relay
from tests.support.waiting import eventually

SERVERS = ["granian", "uvicorn"]
SLOW = 0.1


@asynccontextmanager
async def slow_api(redis_server: RedisServer, server: str = "granian") -> AsyncIterator[Api]:
    """One that can serve five joins a second of an event: it takes a while to Redis and back, one at a time."""
    async with Relay(redis_server.port) as relay:
        # Without a job queue it applies heartbeats itself.
        jobs = f"redis://{LOCALHOST}:{free_port()}/0"
        api = Api(relay.url, server=server, jobs_redis_url=jobs, max_batch=1)
        try:
            await asyncio.to_thread(api.__enter__)
            relay.delay = SLOW
            yield api
        finally:
            await asyncio.to_thread(api.__exit__)


def overloaded(answers: list[httpx.Response]) -> list[httpx.Response]:
    """Those who were refused, in the one way there is."""
    found = [answer for answer in answers if answer.status_code != 202]
    for answer in found:
        refused(answer, 503, "OVERLOADED")
        assert retry_after(answer) <= 10
    return found


@pytest.mark.parametrize("server", SERVERS)
async def test_requests_beyond_capacity_are_refused_and_the_others_served(
    redis_server: RedisServer, redis: Redis, event: str, server: str
) -> None:
    async with slow_api(redis_server, server) as api, client(api.url) as http:
        answers = await crowd(api, [post(JOIN, {"event_id": event})] * 40)
        served = len(answers) - len(overloaded(answers))
        assert 2 <= served < 40
        # Nobody who was refused is in line, and when it is over a join is a join again.
        assert await redis.xlen(Keys().event(event).stream) == served
        assert (await join(http, event))["position_hint"] == served + 1


async def test_a_flood_of_joins_holds_up_nobody_else(
    redis_server: RedisServer, redis: Redis, live_line: Line, signer: Signer, event: str
) -> None:
    (ticket,) = await fill(live_line, event, 1)
    async with slow_api(redis_server) as api, client(api.url) as http:
        flood = asyncio.create_task(crowd(api, [post(JOIN, {"event_id": event})] * 400))

        async def flooded() -> bool:
            return bool(await redis.xlen(Keys().event(event).stream) > 2)

        await eventually(flooded)
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).json() == {"status": "ok", "redis": "up"}
        assert (await try_join(http, f"{event}-2")).status_code == 202
        assert (await leave(http, signer.waiting(event, ticket))).status_code == 200
        assert overloaded(await flood)


async def test_a_refused_poll_still_counts_as_a_heartbeat(
    redis_server: RedisServer, redis: Redis, live_line: Line, signer: Signer, event: str
) -> None:
    tickets = await fill(live_line, event, 60)
    heartbeats = Keys().event(event).heartbeat
    seconds, _ = await redis.time()
    long_ago = (seconds - 100) * 1000
    await redis.zadd(heartbeats, {str(ticket): long_ago for ticket in tickets})
    async with slow_api(redis_server) as api:
        head = "GET {}?token={} HTTP/1.1\r\nHost: daegi\r\n\r\n"
        polls = [head.format(STATUS, signer.waiting(event, ticket)).encode() for ticket in tickets]
        answers = await crowd(api, polls)
        silenced = [ticket for ticket, answer in zip(tickets, answers, strict=True) if answer.status_code == 503]
        assert 10 < len(silenced) < 60

        async def heard() -> bool:
            return all([await redis.zscore(heartbeats, ticket) > long_ago for ticket in silenced])

        await eventually(heard)


async def test_clients_that_give_up_while_waiting_leave_room_for_others(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with Relay(redis_server.port) as relay:
        api = Api(relay.url, jobs_redis_url=redis_server.url, max_pending=8)
        async with running(api) as http:
            await open_all_connections(relay, redis, http)
            relay.held = True
            connections = [await asyncio.open_connection(LOCALHOST, api.port) for _ in range(8)]
            for i, (_, writer) in enumerate(connections):
                writer.write(post(JOIN, {"event_id": f"{event}-{i}"}))

            async def they_wait() -> bool:
                # Some of the eight connections to Redis may be the pulse's and the errands'.
                return sum([await redis.xlen(Keys().event(f"{event}-{i}").stream) for i in range(8)]) >= 4

            await eventually(they_wait)
            refused(await try_join(http, event), 503, "OVERLOADED")
            for _, writer in connections:
                writer.close()
            relay.held = False

            async def eight_find_room() -> bool:
                answers = await crowd(api, [post(JOIN, {"event_id": event})] * 8)
                return [answer.status_code for answer in answers] == [202] * 8

            await eventually(eight_find_room)


@pytest.mark.parametrize("server", SERVERS)
async def test_sigterm_answers_all_held_requests(
    redis_server: RedisServer, redis: Redis, event: str, server: str
) -> None:
    async with slow_api(redis_server, server) as api:
        connections = [await asyncio.open_connection(LOCALHOST, api.port) for _ in range(200)]
        for _, writer in connections:
            writer.write(post(JOIN, {"event_id": event}))
        answers = [asyncio.create_task(read_answer(*connection)) for connection in connections]

        async def one_is_refused() -> bool:
            return any(one.done() and one.result().status_code == 503 for one in answers)

        await eventually(one_is_refused)
        assert not all(one.done() for one in answers)
        api.process.send_signal(signal.SIGTERM)
        assert overloaded(await asyncio.gather(*answers))
        code = await asyncio.to_thread(api.process.wait, 20)
        assert code == 0
