"""Health and readiness, as an orchestrator sees them, with Redis available, not yet available, and lost again."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from redis.asyncio import Redis

from api.app import create_app
from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.api.bad_requests import STATUS
from tests.support.calls import join, running, status, try_join, try_status
from tests.support.connections import open_all_connections
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.redis_monitor import Monitor
from tests.support.refusals import refused, retry_after
from tests.support.relay import Relay
from tests.support.settings import OPERATOR, SECRET
from tests.support.waiting import eventually

ADMIN = "/api/v1/admin/events"


async def test_it_starts_and_stays_up_without_redis_and_is_ready_once_redis_has_answered(event: str) -> None:
    port = free_port()
    api = Api(f"redis://{LOCALHOST}:{port}/0", probe="/healthz")
    async with running(api) as http:
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "starting", "redis": "away"})
        answer = await try_join(http, event)
        refused(answer, 503, "UNAVAILABLE")
        assert retry_after(answer) <= 10
        refused(await try_status(http, "nonsense"), 400, "INVALID_TOKEN")
        assert (await http.get("/healthz")).json() == {"status": "ok"}

        with RedisServer().start(port) as server:

            async def is_ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await eventually(is_ready)
            assert (await http.get("/readyz")).json() == {"status": "ok", "redis": "up"}
            token = (await join(http, event))["waiting_token"]
            assert (await status(http, token))["position"] == 1
            server.kill()

            async def says_away() -> bool:
                return bool((await http.get("/readyz")).json() == {"status": "ok", "redis": "away"})

            await eventually(says_away)
            assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/healthz")).status_code == 200


async def test_probes_never_ask_redis(http: httpx.AsyncClient, redis_server: RedisServer, redis: Redis) -> None:
    async with Monitor(redis_server.url) as monitor:
        for _ in range(100):
            for path in ("/healthz", "/readyz"):
                assert (await http.get(path)).status_code == 200
        commands = await monitor.commands()
    # Its own pulse and count of events go on, once a second each.
    assert len(commands) < 50


async def test_probes_answer_head_and_say_not_to_keep_the_answer(http: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["cache-control"] == "no-store"


@pytest.fixture
def _process_as_it_was() -> Iterator[None]:
    # The application takes over the logs and the garbage collection of its process, which is the tests' own here.
    root, thresholds = logging.getLogger(), gc.get_threshold()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
async def relay(redis_server: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(redis_server.port) as opened:
        yield opened


async def test_head_is_answered_wherever_get_is_without_a_body(http: httpx.AsyncClient, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    paths = ("/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", ADMIN, f"{ADMIN}/{event}", STATUS)
    for path in paths:
        params = {"token": token} if path == STATUS else None
        whole, head = [await http.request(how, path, params=params, headers=OPERATOR) for how in ("GET", "HEAD")]
        assert head.status_code == whole.status_code == 200, path
        assert head.content == b""
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
    head = await http.head(STATUS, params={"token": "w~forged"})
    assert (head.status_code, head.content) == (400, b"")


@pytest.mark.usefixtures("_process_as_it_was")
async def test_while_draining_it_is_not_ready_and_requests_in_progress_still_succeed(
    redis_server: RedisServer, redis: Redis, relay: Relay, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("REDIS_URL", relay.url),
        ("JOBS_REDIS_URL", redis_server.url),
        ("TOKEN_SECRETS", f'["{SECRET}"]'),
    ):
        monkeypatch.setenv(f"DAEGI_{name}", value)
    async with asyncio.TaskGroup() as group:
        manager = LifespanManager(create_app(), startup_timeout=30, shutdown_timeout=30)
        app: Any = (await manager.__aenter__()).app
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://daegi")

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await eventually(is_ready)
        await open_all_connections(relay, redis, http)
        relay.held = True
        joining = group.create_task(try_join(http, event))
        await eventually(lambda: _joined(redis, event, 1))
        stopping = group.create_task(manager.__aexit__(None, None, None))

        async def draining() -> bool:
            return bool((await http.get("/readyz")).json()["status"] == "draining")

        await eventually(draining)
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
        assert not joining.done()
        relay.held = False
        assert (await joining).status_code == 202
        await stopping
        await http.aclose()


async def _joined(redis: Redis, event: str, people: int) -> bool:
    return bool(await redis.xlen(f"stream:event:{{{event}}}") == people)
