"""The state of an event is lost under a live process: what it kept is found elsewhere, or begins with nothing."""

import asyncio
from typing import Any

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, ticket_of
from tests.support.calls import configure, enter, join, leave, running, status
from tests.support.processes import Api

# Nothing flows in while the test looks: what there is was there at the beginning.
SMALL: dict[str, Any] = {"admit_rate": 0, "admit_burst": 5}


async def test_tickets_still_rise_and_nobody_walks_in_on_a_new_bucket(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with running(Api(own_server.url, **SMALL)) as http:
        tokens = [(await join(http, event))["waiting_token"] for _ in range(10)]
        assert (await status(http, tokens[0]))["ready_for_entry"]
        await enter(http, tokens[0])
        # From ahead of the clock, as after a clock that ran ahead: the last ticket is what counts, not the time.
        ahead = ticket_of(tokens[-1]) + 3_600_000_000
        await redis.execute_command("XSETID", KEYS.event(event).stream, f"{ahead // 1000}-{ahead % 1000}")

        assert await redis.delete(KEYS.event(event).state) == 1

        newcomers = await asyncio.gather(*(join(http, event) for _ in range(10)))
        tickets = sorted(ticket_of(one["waiting_token"]) for one in newcomers)
        assert tickets[0] > ahead
        assert await logged(redis, event) == [*map(ticket_of, tokens[1:]), *tickets]
        for token in tokens[1:]:
            assert not (await status(http, token))["ready_for_entry"]
        event_now = await configure(http, event, paused=False)
        assert event_now["tokens"] == 0
        assert not event_now["damaged"]


async def test_tickets_rise_also_when_the_log_is_empty_by_then(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with running(Api(own_server.url, **SMALL)) as http:
        token = (await join(http, event))["waiting_token"]
        ahead = ticket_of(token) + 3_600_000_000
        await redis.execute_command("XSETID", KEYS.event(event).stream, f"{ahead // 1000}-{ahead % 1000}")
        assert (await leave(http, token)).status_code == 200
        assert await logged(redis, event) == []

        assert await redis.delete(KEYS.event(event).state) == 1

        later = (await join(http, event))["waiting_token"]
        assert ticket_of(later) > ahead
        assert not (await status(http, later))["ready_for_entry"]


async def test_the_bucket_fills_again_from_empty(own_server: RedisServer, redis: Client, event: str) -> None:
    async with running(Api(own_server.url, admit_rate=2, admit_burst=0)) as http:
        tokens = [(await join(http, event))["waiting_token"] for _ in range(4)]
        assert await redis.delete(KEYS.event(event).state) == 1
        assert not (await status(http, tokens[0]))["ready_for_entry"]

        # Eight would have been there at once in a new event.
        entered = 0
        seconds, micros = await redis.time()
        began = seconds + micros / 1e6
        while entered < 4:
            if (await status(http, tokens[entered]))["ready_for_entry"]:
                await enter(http, tokens[entered])
                entered += 1
            seconds, micros = await redis.time()
            assert entered <= 1 + 2 * (seconds + micros / 1e6 - began)
