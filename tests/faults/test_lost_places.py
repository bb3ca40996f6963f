"""The places of verified users are lost under live processes: each keeps the one they have, and gets no second one."""

from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, ticket_of
from tests.support.calls import join, running, try_join
from tests.support.processes import Api, Worker
from tests.support.refusals import refused, retry_after
from tests.support.settings import CLOSED
from tests.support.waiting import eventually


async def test_a_verified_user_who_rejoins_waits_until_their_place_is_found(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    users = [f"user-{number}" for number in range(20)]
    async with running(Api(own_server.url, trusted_user_header="X-User-Id", **CLOSED)) as http:
        tokens = {user: (await join(http, event, user=user))["waiting_token"] for user in users}
        assert await redis.delete(KEYS.event(event).places) == 1

        answer = await try_join(http, event, user="user-7")
        refused(answer, 503, "UNAVAILABLE")
        assert retry_after(answer) <= 10
        anybody = (await join(http, event))["waiting_token"]

        async def repair_is_requested() -> bool:
            async with Redis.from_url(own_server.url) as raw:
                jobs = [await raw.get(key) or b"" async for key in raw.scan_iter("arq:job:*")]
            return any(b"repair_index" in job and event.encode() in job for job in jobs)

        await eventually(repair_is_requested)
        with Worker(own_server.url, **CLOSED):

            async def found() -> bool:
                return (await try_join(http, event, user="user-7")).status_code == 202

            await eventually(found)
        assert {user: (await join(http, event, user=user))["waiting_token"] for user in users} == tokens
        assert await logged(redis, event) == [*map(ticket_of, tokens.values()), ticket_of(anybody)]
