"""A damaged line over HTTP: people still join and poll, nobody enters, and a worker is asked to repair it."""

from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.support.calls import configure, join, leave, status, try_enter
from tests.support.line_state import fill
from tests.support.processes import Worker
from tests.support.refusals import refused
from tests.support.waiting import eventually


@pytest.mark.usefixtures("redis")
async def test_without_an_index_the_place_is_unknown(
    http: httpx.AsyncClient, live_line: Line, redis: Redis, signer: Signer, event: str
) -> None:
    tickets = await fill(live_line, event, 5)
    await redis.delete(Keys().event(event).queue)
    joined = await join(http, event)
    assert (joined["position_hint"], joined["status"]) == (0, "waiting")
    stands = await status(http, signer.waiting(event, tickets[3]))
    assert (stands["approximate"], stands["position"], stands["eta_sec"]) == (True, 0, None)
    assert (stands["status"], stands["ready_for_entry"]) == ("waiting", False)
    for ticket in tickets:
        refused(await try_enter(http, signer.waiting(event, ticket)), 403, "NOT_READY")
    assert (await leave(http, signer.waiting(event, tickets[0]))).json() == {"status": "left"}


async def test_the_last_index_gives_an_approximate_place_and_a_worker_repairs_the_line(
    http: httpx.AsyncClient, redis_server: RedisServer, live_line: Line, redis: Redis, event: str
) -> None:
    await configure(http, event, rate=0, burst=0)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(30)]
    await live_line.publish_index(event)
    keys = Keys().event(event)
    await redis.delete(keys.queue)

    async def placed() -> Any:
        stands = await status(http, tokens[19])
        return stands if stands["position"] else None

    stands = await eventually(placed)
    assert (stands["approximate"], stands["position"]) == (True, 20)
    # A poll of somebody whom the log knows puts them back; all the others wait for repair.
    assert await redis.zcard(keys.queue) == 1
    with Worker(redis_server.url):

        async def whole() -> bool:
            return not (await status(http, tokens[0]))["approximate"]

        await eventually(whole)
    assert [(await status(http, token))["position"] for token in tokens] == list(range(1, 31))
    await configure(http, event, rate=1)

    async def comes_in() -> bool:
        return (await try_enter(http, tokens[0])).status_code == 200

    await eventually(comes_in)
