"""Redis is unavailable: leases still show a place, other requests are refused at once, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from shared.tokens.signer import Signer
from tests.support.calls import (
    configure,
    enter,
    join,
    leave,
    running,
    status,
    try_enter,
    try_join,
    try_redeem,
    try_status,
)
from tests.support.line_state import age_index, fill
from tests.support.polling import Crowd, from_memory, now_ms, publishing
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.redis_monitor import Monitor
from tests.support.refusals import refused, retry_after
from tests.support.waiting import eventually

AWAY: dict[str, Callable[[RedisServer], None]] = {"frozen": RedisServer.pause, "killed": RedisServer.kill}


@asynccontextmanager
async def line_of(server: RedisServer) -> AsyncIterator[Line]:
    settings = Settings.model_validate({"redis_url": server.url})
    client = connect(settings, "daegi-tests")
    try:
        yield Line(client, settings)
    finally:
        await client.aclose()


@pytest.fixture
async def own_redis(own_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(own_server.url, decode_responses=True)
    yield client
    await client.aclose()


async def is_away(http: httpx.AsyncClient) -> bool:
    ready = await http.get("/readyz")
    # An outage takes no pod out of service: people should get our answers, not a balancer's.
    assert ready.status_code == 200
    return bool(ready.json()["redis"] == "away")


async def index_fetched(server: RedisServer, http: httpx.AsyncClient, token: str) -> None:
    """Polls until the process has asked for the index that bridges an outage."""
    async with Monitor(server.url) as monitor:

        async def asked() -> bool:
            await status(http, token)
            return any(command.startswith("GET position_index") for command in await monitor.commands())

        await eventually(asked)


@pytest.mark.parametrize("how", list(AWAY))
async def test_a_lease_keeps_a_place_in_sight_and_all_else_is_refused_at_once(
    own_server: RedisServer, own_redis: Redis, signer: Signer, event: str, how: str
) -> None:
    # Calls are fresh for longer than the outage: a stale one's place is 1.
    async with running(Api(own_server.url, call_fresh=60)) as http, line_of(own_server) as line:
        entered = await join(http, event)
        reservation = (await enter(http, entered["waiting_token"]))["reservation_token"]
        crowd = Crowd(event, await fill(line, event, 30))
        await line.publish_index(event)
        await index_fetched(own_server, http, crowd.token(30))
        assert (await status(http, crowd.token(1)))["ready_for_entry"] is True
        lease = await now_ms(own_redis)
        AWAY[how](own_server)
        await eventually(lambda: is_away(http))

        for place in (1, 10, 30):
            stands = await status(http, crowd.token(place, lease))
            assert (stands["approximate"], stands["status"]) == (True, "waiting")
            assert abs(stands["position"] - place) <= 1
            # Whoever was called has to wait for Redis as well.
            assert stands["ready_for_entry"] is False
        without = crowd.token(10, lease - 76_000)
        async with asyncio.timeout(40):
            # Each of them would take a second or two, if it asked Redis first.
            for _ in range(20):
                for answer in (
                    await try_status(http, without),
                    await try_join(http, event),
                    await try_enter(http, crowd.token(1, lease)),
                    await leave(http, crowd.token(2)),
                    await try_redeem(http, reservation),
                ):
                    refused(answer, 503, "UNAVAILABLE")
                    assert retry_after(answer) <= 10
        assert (await http.get("/healthz")).status_code == 200

        own_server.resume() if how == "frozen" else own_server.restart()

        async def back() -> Any:
            answer = await try_status(http, without)
            return answer.json() if answer.status_code == 200 else None

        assert (await eventually(back))["position"] == 10
        answer = await http.post("/api/v1/queue/redeem", json={"reservation_token": reservation})
        assert answer.status_code == 200


async def test_an_index_bridges_an_outage_for_60_seconds(own_server: RedisServer, own_redis: Redis, event: str) -> None:
    async with running(Api(own_server.url)) as http, line_of(own_server) as line:
        crowds = {}
        for age in (20, 61):
            crowd = crowds[age] = Crowd(f"{event}-{age}", await fill(line, f"{event}-{age}", 5))
            await line.publish_index(crowd.event)
            await age_index(own_redis, crowd.event, age)
            await index_fetched(own_server, http, crowd.token(5))
        lease = await now_ms(own_redis)
        own_server.kill()
        await eventually(lambda: is_away(http))
        assert (await status(http, crowds[20].token(5, lease)))["approximate"] is True
        refused(await try_status(http, crowds[61].token(5, lease)), 503, "UNAVAILABLE")


async def test_nobody_who_joined_after_the_index_is_told_its_last_place_in_an_outage(
    own_server: RedisServer, own_redis: Redis, event: str
) -> None:
    async with running(Api(own_server.url)) as http, line_of(own_server) as line:
        crowd = Crowd(event, await fill(line, event, 5))
        await line.publish_index(event)
        await index_fetched(own_server, http, crowd.token(5))
        late = Crowd(event, await fill(line, event, 50))
        lease = await now_ms(own_redis)
        own_server.kill()
        await eventually(lambda: is_away(http))
        assert (await status(http, crowd.token(5, lease)))["position"] == 5
        refused(await try_status(http, late.token(50, lease)), 503, "UNAVAILABLE")


async def test_heartbeats_during_an_outage_count_after_it(
    own_server: RedisServer, own_redis: Redis, event: str
) -> None:
    # Without a job queue the process writes heartbeats down itself, as soon as it can.
    api = Api(own_server.url, jobs_redis_url=f"redis://{LOCALHOST}:{free_port()}/0", log_level="debug")
    async with running(api) as http, line_of(own_server) as line:
        await configure(http, event, rate=0, burst=0)
        crowd = Crowd(event, await fill(line, event, 1100))
        async with publishing(line, event):
            await from_memory(http, crowd.token(1100))
        heartbeats, ticket = Keys().event(event).heartbeat, crowd.tickets[1049]
        now = await now_ms(own_redis)
        await own_redis.zadd(heartbeats, {str(ticket): now - 250_000})
        own_server.kill()
        await eventually(lambda: is_away(http))
        assert (await status(http, crowd.token(1050, now - 50_000)))["approximate"] is True

        async def tried_in_vain() -> bool:
            return "heartbeats are applied here" in api.log()

        await eventually(tried_in_vain)
        own_server.restart()

        async def heard() -> bool:
            return (await own_redis.zscore(heartbeats, ticket)) > now - 1000

        await eventually(heard)


async def test_joins_during_an_outage_leave_nobody_twice_in_line(
    own_server: RedisServer, own_redis: Redis, event: str
) -> None:
    key = "the-key-of-somebody-patient"
    async with running(Api(own_server.url)) as http:
        await join(http, event)
        own_server.pause()
        answers = await asyncio.gather(*(try_join(http, event, key=key) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {503}
        own_server.resume()

        async def joined() -> Any:
            answer = await try_join(http, event, key=key)
            return answer.json() if answer.status_code == 202 else None

        # What was sent and never answered was served all the same; the retry finds it.
        token = (await eventually(joined))["waiting_token"]
        assert (await join(http, event, key=key))["waiting_token"] == token
        assert await own_redis.xlen(Keys().event(event).stream) == 2
