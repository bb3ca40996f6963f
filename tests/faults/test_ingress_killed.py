"""An ingress process is killed in the middle of a batch: who was answered is in line, who was not asks again."""

import asyncio

import httpx

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, places, ticket_of
from tests.support.calls import join, running, try_join
from tests.support.processes import Api
from tests.support.redis_version import script_in_force
from tests.support.relay import Relay
from tests.support.settings import CLOSED
from tests.support.waiting import eventually


async def test_no_answered_join_is_lost_and_a_retry_with_its_key_finds_the_same_place(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    keys = [f"the-key-of-caller-{number:03}" for number in range(60)]
    async with Relay(own_server.port) as relay:
        killed = Api(relay.url, jobs_redis_url=own_server.url, **CLOSED)
        async with running(killed) as there, running(Api(own_server.url, **CLOSED)) as elsewhere:
            answered = await asyncio.gather(*(join(there, event, key=key) for key in keys[:20]))
            relay.trap = script_in_force("enqueue").sha.encode()
            unanswered = [asyncio.create_task(try_join(there, event, key=key)) for key in keys[20:]]

            async def some_are_in() -> bool:
                return len(await logged(redis, event)) > 20

            await eventually(some_are_in)
            killed.kill()
            lost = await asyncio.gather(*unanswered, return_exceptions=True)
            assert all(isinstance(one, httpx.TransportError) for one in lost)
            in_the_middle = await logged(redis, event)

            again = await asyncio.gather(*(join(elsewhere, event, key=key) for key in keys))

            tickets = [ticket_of(answer["waiting_token"]) for answer in again]
            assert [one["waiting_token"] for one in again[:20]] == [one["waiting_token"] for one in answered]
            assert set(in_the_middle) <= set(tickets)
            assert len(set(tickets)) == 60
            assert await logged(redis, event) == await members(redis, event) == sorted(tickets)
            by_ticket = sorted((answer["waiting_token"] for answer in again), key=ticket_of)
            assert await places(elsewhere, by_ticket) == list(range(1, 61))


async def test_a_process_that_is_told_to_stop_answers_everybody_whom_it_has_put_in_line(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with Relay(own_server.port) as relay:
        stopped = Api(relay.url, jobs_redis_url=own_server.url, **CLOSED)
        async with running(stopped) as http:
            await join(http, "another")
            relay.trap = script_in_force("enqueue").sha.encode()
            asked = [asyncio.create_task(try_join(http, event)) for _ in range(10)]

            async def some_are_in() -> bool:
                return bool(await logged(redis, event))

            await eventually(some_are_in)
            stopped.process.terminate()
            await asyncio.sleep(0.3)
            relay.trap, relay.held = b"", False

            # Whose request it had not yet read is not answered, and is not in line either.
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            answers = [one for one in outcomes if isinstance(one, httpx.Response)]
            assert all(isinstance(one, httpx.Response | httpx.TransportError) for one in outcomes)
            given = sorted(ticket_of(answer.json()["waiting_token"]) for answer in answers)
            assert await asyncio.to_thread(stopped.process.wait, 20) == 0
            assert await logged(redis, event) == given
            # The second round trip is part of it.
            assert sorted(map(int, await redis.zrange(KEYS.event(event).heartbeat, 0, -1))) == given
