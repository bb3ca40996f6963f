"""Redis with an append-only file crashes, and comes back later than every TTL: the line is the line it was."""

import asyncio
from typing import Any

import pytest

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, places, swept, ticket_of
from tests.support.calls import join, running, status, try_join, try_status
from tests.support.processes import Api, Worker
from tests.support.refusals import refused, retry_after
from tests.support.settings import CLOSED
from tests.support.waiting import eventually

SHORT: dict[str, Any] = {
    "heartbeat_ttl": 5,
    "line_ttl": 3,
    "dedupe_ttl": 3,
    "pass_ttl": 2,
    "ready_ttl": 1,
    **CLOSED,
}
PAUSE = 5.5


def unharmed(process: Api | Worker) -> bool:
    return process.process.poll() is None and "Traceback" not in process.log()


async def test_the_same_people_stand_in_the_same_order_and_nobody_is_expired(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    api = Api(own_server.url, trusted_user_header="X-User-Id", **SHORT)
    with Worker(own_server.url, **SHORT) as worker:
        async with running(api) as http:
            family = {one.pid for one in api.family()}
            users = [f"user-{number}" for number in range(10)]
            tokens = [(await join(http, event, user=user))["waiting_token"] for user in users]
            tokens += [(await join(http, event))["waiting_token"] for _ in range(10)]
            before = [ticket_of(token) for token in tokens]
            await swept(redis, event)
            # What Redis itself could let go of while it is down is never the truth.
            truth = [key async for key in redis.scan_iter(f"*{{{event}}}*")]
            assert KEYS.event(event).stream in truth
            assert [await redis.pttl(key) for key in truth] == [-1] * len(truth)

            own_server.kill()
            answers = [await try_join(http, event) for _ in range(3)]
            await asyncio.sleep(PAUSE)
            answers += [await try_join(http, event), await try_status(http, tokens[0])]
            ready = await http.get("/readyz")
            own_server.restart()

            for answer in answers:
                refused(answer, 503, "UNAVAILABLE")
                assert retry_after(answer) <= 10
            assert ready.status_code == 200
            assert ready.json()["redis"] == "away"

            async def it_is_back() -> bool:
                return (await try_status(http, tokens[0])).status_code == 200

            await eventually(it_is_back)
            # By themselves: the scripts are lost with every restart.
            await swept(redis, event, 2)
            assert await logged(redis, event) == await members(redis, event) == before
            assert await places(http, tokens) == list(range(1, 21))
            assert [(await join(http, event, user=user))["waiting_token"] for user in users] == tokens[:10]
            newcomer = (await join(http, event))["waiting_token"]
            assert ticket_of(newcomer) > before[-1]
            assert (await status(http, newcomer))["position"] == 21
            assert await redis.hget(KEYS.event(event).state, "expired") is None
            assert {one.pid for one in api.family()} == family
            assert unharmed(api)
            assert unharmed(worker)


@pytest.mark.parametrize("fault", ["killed", "paused"])
async def test_an_api_process_comes_back_by_itself_after_each_of_two_outages(
    own_server: RedisServer, redis: Client, event: str, fault: str
) -> None:
    api = Api(own_server.url, **CLOSED)
    async with running(api) as http:
        tokens = [(await join(http, event))["waiting_token"]]
        for _ in range(2):
            if fault == "killed":
                own_server.kill()
            else:
                own_server.pause()

            async def away() -> bool:
                return (await http.get("/readyz")).json()["redis"] == "away"

            await eventually(away)
            refused(await try_join(http, event), 503, "UNAVAILABLE")
            if fault == "killed":
                own_server.restart()
            else:
                own_server.resume()

            async def joined() -> bool:
                answer = await try_join(http, event)
                if answer.status_code == 202:
                    tokens.append(answer.json()["waiting_token"])
                return answer.status_code == 202

            await eventually(joined)
        assert await logged(redis, event) == [ticket_of(token) for token in tokens]
        assert unharmed(api)
