"""Redis hangs: requests that wait for a connection don't each have to find that out, one after another."""

import asyncio

import httpx
import pytest

from shared.dev.redis_server import RedisServer
from tests.support.calls import join, running, try_join
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused, retry_after
from tests.support.waiting import eventually

JOIN, STATUS = "/api/v1/queue/join", "/api/v1/queue/status"
MANY = 200


@pytest.mark.parametrize("asking", ["joins", "polls"])
async def test_requests_for_many_events_are_all_refused_within_seconds(
    own_server: RedisServer, event: str, asking: str
) -> None:
    api = Api(own_server.url)
    async with running(api) as http:
        # A batch an event: nobody's request rides with anybody else's.
        joins = [post(JOIN, {"event_id": f"{event}-{number}"}) for number in range(MANY)]
        joined = await crowd(api, joins)
        tokens = [answer.json()["waiting_token"] for answer in joined]
        polls = [f"GET {STATUS}?token={token} HTTP/1.1\r\nHost: daegi\r\n\r\n".encode() for token in tokens]

        own_server.pause()
        # Eight connections, two seconds each until somebody gives up: 50 s, if everybody had to.
        async with asyncio.timeout(15):
            answers = await crowd(api, joins if asking == "joins" else polls)
        for answer in answers:
            refused(answer, 503, "UNAVAILABLE")
            assert retry_after(answer) <= 10

        own_server.resume()

        async def back() -> httpx.Response | None:
            answer = await try_join(http, event)
            return answer if answer.status_code == 202 else None

        await eventually(back)
        assert (await join(http, f"{event}-0"))["status"] == "waiting"
