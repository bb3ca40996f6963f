"""Polls under a lease, far back in a long line: answered from the published index, without cost to Redis."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.line import INDEX_FRESH_MS, MILESTONES, Line
from shared.tokens.signer import Signer
from tests.support.calls import configure, leave, status, try_status
from tests.support.line_state import age_index, fill
from tests.support.polling import Crowd, exactly, from_memory, now_ms, publishing
from tests.support.redis_monitor import Monitor
from tests.support.refusals import refused
from tests.support.waiting import eventually

PEOPLE = 3000
# Three people between two of its 1,024 milestones.
WIDTH = 3


@pytest.fixture
async def crowd(http: httpx.AsyncClient, live_line: Line, event: str) -> Crowd:
    await configure(http, event, rate=0, burst=0)
    return Crowd(event, await fill(live_line, event, PEOPLE))


@pytest.fixture
async def published(live_line: Line, crowd: Crowd) -> AsyncIterator[None]:
    async with publishing(live_line, crowd.event):
        yield


@pytest.mark.usefixtures("published")
async def test_it_costs_redis_nothing_and_is_right_within_a_milestones_width(
    http: httpx.AsyncClient, redis_server: RedisServer, crowd: Crowd
) -> None:
    places = range(1010, PEOPLE, 20)

    async def measured() -> tuple[list[Any], list[str]] | None:
        """All polls and all commands; once more if a stall let the index become stale meanwhile."""
        async with Monitor(redis_server.url) as monitor:
            found = [await status(http, crowd.token(place)) for place in places]
            commands = await monitor.commands()
        return (found, commands) if all(stands["approximate"] for stands in found) else None

    found, commands = await eventually(measured)
    assert max(abs(stands["position"] - place) for stands, place in zip(found, places, strict=True)) < WIDTH
    ours = [command for command in commands if "{" + crowd.event + "}" in command]
    # The index itself is fetched twice a second, however many poll.
    fetches = [command for command in ours if command.startswith("GET position_index")]
    assert len(fetches) < len(places) / 4
    publications = [command for command in ours if command.endswith(f" {INDEX_FRESH_MS} {MILESTONES}")]
    assert [command for command in ours if command not in fetches and command not in publications] == []


@pytest.mark.usefixtures("published")
async def test_such_an_answer_keeps_the_token_and_promises_nothing(http: httpx.AsyncClient, crowd: Crowd) -> None:
    token = crowd.token(PEOPLE)
    stands = await from_memory(http, token)
    assert stands["waiting_token"] == token
    assert (stands["status"], stands["ready_for_entry"], stands["eta_sec"]) == ("waiting", False, None)
    assert 0 <= stands["waiting_time"] < 60
    assert 0 < stands["poll_after_ms"] <= 37_500


@pytest.mark.usefixtures("published")
async def test_the_first_1000_are_always_polled_exactly(http: httpx.AsyncClient, crowd: Crowd) -> None:
    for place in (1, 500, 1000 - WIDTH):
        await from_memory(http, crowd.token(1000 + WIDTH))
        stands = await status(http, crowd.token(place))
        assert (stands["approximate"], stands["position"]) == (False, place)


@pytest.mark.usefixtures("published")
async def test_people_who_could_become_ready_within_twice_ready_ttl_are_polled_exactly(
    http: httpx.AsyncClient, crowd: Crowd
) -> None:
    await from_memory(http, crowd.token(1700))
    # 10 a second for 180 s: the first 1,800.
    await configure(http, crowd.event, rate=10, burst=0)
    await exactly(http, crowd.token(1700))
    assert (await from_memory(http, crowd.token(2500)))["position"] > 1800
    assert (await status(http, crowd.token(1700)))["approximate"] is False


async def test_without_an_index_every_poll_is_exact(http: httpx.AsyncClient, crowd: Crowd) -> None:
    for _ in range(5):
        stands = await status(http, crowd.token(2500))
        assert (stands["approximate"], stands["position"]) == (False, 2500)
        assert crowd.lease(stands["waiting_token"]) > crowd.lease(crowd.token(2500))


async def test_with_a_stale_index_every_poll_is_exact(
    http: httpx.AsyncClient, live_line: Line, redis: Redis, crowd: Crowd
) -> None:
    await live_line.publish_index(crowd.event)
    await from_memory(http, crowd.token(2500))
    await age_index(redis, crowd.event, 3.5)
    assert (await exactly(http, crowd.token(2500)))["position"] == 2500
    assert (await status(http, crowd.token(2500)))["approximate"] is False


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(("seconds", "counts"), [(-60, True), (0.5, True), (-76, False), (5, False), (10**6, False)])
async def test_only_a_lease_that_is_neither_over_nor_in_the_future_counts(
    http: httpx.AsyncClient, redis: Redis, crowd: Crowd, seconds: float, counts: bool
) -> None:
    await from_memory(http, crowd.token(2500))
    lease = await now_ms(redis) + int(seconds * 1000)
    token = crowd.token(2500, lease)
    stands = await from_memory(http, token) if counts else await status(http, token)
    assert stands["approximate"] is counts
    if counts:
        assert stands["waiting_token"] == token
    else:
        # An exact poll proves a new lease; one in the future is replaced too.
        assert abs(crowd.lease(stands["waiting_token"]) - await now_ms(redis)) < 60_000


async def test_people_who_joined_after_the_index_was_computed_are_polled_exactly(
    http: httpx.AsyncClient, live_line: Line, signer: Signer, crowd: Crowd
) -> None:
    await live_line.publish_index(crowd.event)
    await from_memory(http, crowd.token(PEOPLE))
    late = await fill(live_line, crowd.event, 10)
    stands = await status(http, signer.waiting(crowd.event, late[-1]))
    assert (stands["approximate"], stands["position"]) == (False, PEOPLE + 10)


@pytest.mark.usefixtures("published")
async def test_people_who_left_are_shown_as_waiting_until_an_exact_poll(
    http: httpx.AsyncClient, redis: Redis, crowd: Crowd
) -> None:
    await from_memory(http, crowd.token(2000))
    await leave(http, crowd.token(2500))
    assert (await status(http, crowd.token(2500)))["status"] == "waiting"
    over = crowd.token(2500, await now_ms(redis) - 76_000)
    refused(await try_status(http, over), 404, "TOKEN_EXPIRED")
