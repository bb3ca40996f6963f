"""Joins without a key, while Redis hangs and connections break: whoever is answered is in line, and nobody twice."""

import asyncio
from dataclasses import dataclass, field

import httpx

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import Client, logged, ticket_of
from tests.support.calls import running, try_join
from tests.support.processes import Api
from tests.support.refusals import refused, retry_after
from tests.support.relay import Relay
from tests.support.waiting import eventually


@dataclass
class Crowd:
    """People who join one after another, without a key, until told to stop."""

    http: httpx.AsyncClient
    event: str
    asked: int = 0
    given: list[int] = field(default_factory=list)
    refusals: list[httpx.Response] = field(default_factory=list)
    stopping: bool = False

    async def join(self) -> None:
        while not self.stopping:
            self.asked += 1
            answer = await try_join(self.http, self.event)
            if answer.status_code == 202:
                self.given.append(ticket_of(answer.json()["waiting_token"]))
            else:
                self.refusals.append(answer)
            await asyncio.sleep(0.05)

    async def has_joined(self, more: int) -> None:
        wanted = len(self.given) + more

        async def enough() -> bool:
            return len(self.given) >= wanted

        await eventually(enough)

    async def has_been_refused(self) -> None:
        async def some() -> bool:
            return bool(self.refusals)

        await eventually(some)


async def holds(relay: Relay) -> bool:
    return relay.held


async def test_there_are_never_more_entries_than_requests_and_every_answered_one_is_there(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with Relay(own_server.port) as relay, running(Api(relay.url, jobs_redis_url=own_server.url)) as http:
        crowd = Crowd(http, event)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(crowd.join())
            await crowd.has_joined(40)

            own_server.pause()
            # Requests under way are given up, and Redis does them later.
            await crowd.has_been_refused()
            hung = len(crowd.refusals)
            own_server.resume()
            await crowd.has_joined(40)

            for _ in range(5):
                relay.cut()
                await crowd.has_joined(10)
            # Done by Redis, and the connection breaks before the answer.
            for _ in range(3):
                relay.trap = b"EVALSHA"
                await eventually(lambda: holds(relay))
                relay.cut()
                relay.trap, relay.held = b"", False
                await crowd.has_joined(10)
            crowd.stopping = True

        async def settled() -> bool:
            before = await redis.dbsize(), await logged(redis, event)
            await asyncio.sleep(0.2)
            return before == (await redis.dbsize(), await logged(redis, event))

        await eventually(settled)
        there = await logged(redis, event)
        assert len(set(crowd.given)) == len(crowd.given)
        assert set(crowd.given) <= set(there)
        assert len(there) <= crowd.asked
        # The test would say nothing had the faults cost nobody their answer.
        assert len(crowd.refusals) > hung
        assert len(there) > len(crowd.given)
        for refusal in crowd.refusals:
            refused(refusal, 503, "UNAVAILABLE")
            assert 1 <= retry_after(refusal) <= 10
