"""The api's metrics: they cover all its processes at once, and identify nobody."""

import asyncio
import os
import signal

import psutil
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.api.bad_requests import JOIN, STATUS
from tests.support.calls import enter, join, leave, redeem, running, status, try_enter, try_redeem, try_status
from tests.support.exposition import scrape
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.waiting import eventually

PREFIX = "metrics:"
KEYS = Keys(PREFIX)
ENDPOINTS = {
    *(f"/api/v1/queue/{call}" for call in ("join", "status", "enter", "leave", "redeem")),
    *("/api/v1/admin/events", "/api/v1/admin/events/{event_id}", "/healthz", "/readyz", "/metrics", "other"),
}


class Watch:
    """Scrapes, and holds each answer against the one before."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    async def joins(self) -> float:
        """Joins as told now."""
        found = await scrape(self._api.port)
        now = found.growing
        assert now
        assert {key: (value, now.get(key)) for key, value in self._before.items() if now.get(key, -1) < value} == {}
        self._before = now
        return found.value("http_requests_total", endpoint=JOIN, status="202")

    async def until(self, joins: int) -> None:
        """Returns when so many joins are told."""

        async def told() -> bool:
            return await self.joins() == joins

        await eventually(told)


async def test_processes_on_one_port_are_added_up_and_never_go_back_not_even_when_one_is_killed(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    api = Api(redis_server.url, processes=2, key_prefix=PREFIX)
    async with running(api):
        assert await eventually(lambda: _pulses(redis, 2))
        watch = Watch(api)
        await crowd(api, [post(JOIN, {"event_id": event})] * 100)
        await watch.until(100)
        for _ in range(20):
            assert await watch.joins() == 100

        victim = psutil.Process(int((await redis.zrange(KEYS.pulse, 0, 0))[0].split("-")[-2]))
        assert victim in api.family()[:-1]
        os.kill(victim.pid, signal.SIGKILL)
        await eventually(lambda: _gone(victim))
        await eventually(lambda: _answers(api))
        assert await watch.joins() == 100
        await crowd(api, [post(JOIN, {"event_id": event})] * 50)
        await watch.until(150)
        assert await asyncio.to_thread(api.stop) == 0


async def _pulses(redis: Redis, processes: int) -> bool:
    return bool(await redis.zcard(KEYS.pulse) == processes)


async def _answers(api: Api) -> bool:
    # A connection that the killed process had accepted, or was about to, is reset.
    try:
        return all([await scrape(api.port) for _ in range(5)])
    except OSError:
        return False


async def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_metrics_identify_nobody_and_clients_cannot_create_labels(
    redis_server: RedisServer, redis: Redis, signer: Signer, event: str
) -> None:
    secrets = {event, "somebody@example.org", "a-label-of-theirs", "an-idempotency-key", "made-up", "w~", "r~"}
    async with running(Api(redis_server.url, key_prefix=PREFIX, trusted_user_header="X-User-Id")) as http:
        joined = await join(
            http, event, key="an-idempotency-key", user="somebody@example.org", label="a-label-of-theirs"
        )
        token = (await status(http, joined["waiting_token"]))["waiting_token"]
        reservation = (await enter(http, token))["reservation_token"]
        await redeem(http, reservation)
        await leave(http, (await join(http, event))["waiting_token"])
        await try_redeem(http, reservation)
        await try_enter(http, token)
        await try_status(http, token + "made-up")
        for path in (f"/made-up/{token}", f"{STATUS}/made-up", f"/api/v1/admin/events/{event}", "/api/v1/admin/events"):
            await http.get(path)
            await http.request("MADE-UP", path)
        await http.post(JOIN, content=b"made-up")
        found = await scrape(int(http.base_url.port or 0))

    told = found.text
    assert {secret for secret in secrets if secret in told} == set()
    assert found.labels("http_requests_total", "endpoint") == ENDPOINTS - {"/healthz", "/metrics"}
    assert found.labels("http_requests_total", "status") >= {"200", "202", "400", "401", "404", "405", "409"}


async def test_each_answer_is_counted_once_with_its_status_and_time(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with running(Api(redis_server.url, key_prefix=PREFIX)) as http:
        port = int(http.base_url.port or 0)
        before = await scrape(port)
        tokens = [(await join(http, event))["waiting_token"] for _ in range(7)]
        await try_status(http, "no token")
        after = await scrape(port)

        def more(name: str, **labels: str) -> float:
            return after.value(name, **labels) - before.value(name, **labels)

        assert len(set(tokens)) == 7
        assert more("http_requests_total", endpoint=JOIN) == 7
        assert more("http_requests_total", endpoint=STATUS, status="400") == 1
        assert more("http_request_duration_seconds_count", endpoint=JOIN) == 7
        assert more("http_request_duration_seconds_bucket", endpoint=JOIN, le="+Inf") == 7
        assert 0 < more("http_request_duration_seconds_sum", endpoint=JOIN) < 30
        assert more("daegi_batch_size_sum", operation="join") == 7
        # A script each, for they came one by one; the pulse and errands have others.
        assert more("redis_commands_total", operation="lua") >= 7
        assert more("redis_commands_total", operation="pipeline") >= 7


async def test_it_shows_an_outage_of_redis_and_shed_requests(redis_server: RedisServer, event: str) -> None:
    with RedisServer() as own:
        api = Api(own.url, max_pending=10)
        async with running(api) as http:
            await join(http, event)
            assert (await scrape(api.port)).value("daegi_redis_away") == 0
            own.pause()
            asked = asyncio.create_task(crowd(api, [post(JOIN, {"event_id": event})] * 40))

            async def shed() -> bool:
                found = await scrape(api.port)
                assert found.value("daegi_pending_requests") <= 10
                return 0 < found.value("daegi_shed_requests_total") <= 30

            async def away(expected: float) -> bool:
                return (await scrape(api.port)).value("daegi_redis_away") == expected

            await eventually(shed)
            await eventually(lambda: away(1))
            own.resume()
            await eventually(lambda: away(0))
            # Whose join Redis had got before it hung may have its answer now.
            assert 503 in {answer.status_code for answer in await asked} <= {202, 503}
            assert (await scrape(api.port)).value("daegi_pending_requests") == 0
