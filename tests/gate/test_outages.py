"""The gate without Redis: passes are good until they run out, and what is open does not stay open for ever."""

import time
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from api.gate.cookies import cookie_name
from shared.dev.redis_server import RedisServer
from tests.gate.conftest import NAVIGATION
from tests.support.processes import Api
from tests.support.settings import OPERATOR
from tests.support.visits import SIGNER, ask_gate, pass_of, visit_room
from tests.support.waiting import eventually


@pytest.fixture
async def site(own_server: RedisServer, event: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a pass, at a gate that stays open for two seconds of an outage."""
    with Api(own_server.url, fail_open_seconds=2) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as http:
            body = {"rate": 0, "burst": 0, "on_outage": "open"}
            await http.put(f"/api/v1/admin/events/{event}", json=body, headers=OPERATOR)
            assert (await ask_gate(http, event)).status_code == 302
            yield http


async def test_an_event_that_stays_open_closes_after_a_while_and_after_the_outage(
    site: httpx.AsyncClient, own_server: RedisServer, event: str
) -> None:
    statuses: list[tuple[int, str | None]] = []

    async def answered(status: int) -> bool:
        answer = await ask_gate(site, event)
        statuses.append((answer.status_code, answer.headers.get("x-daegi-mode")))
        return answer.status_code == status

    for _ in range(2):
        own_server.kill()
        await eventually(lambda: answered(200))
        await eventually(lambda: answered(503))
        own_server.restart()
        await eventually(lambda: answered(302))
    # Who was let through was marked; nobody was given a pass.
    assert set(statuses) <= {(200, "open"), (302, None), (503, None)}
    assert not any(name.startswith("daegi_p_") for name in site.cookies)


async def test_a_pass_is_good_without_redis_until_it_runs_out(own_server: RedisServer, event: str) -> None:
    with Api(own_server.url) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as http:
            await http.put(f"/api/v1/admin/events/{event}", json={"rate": 0, "burst": 0}, headers=OPERATOR)
            assert (await ask_gate(http, event)).status_code == 302
            async with Redis.from_url(own_server.url) as redis:
                seconds, _ = await redis.time()
            now = int(seconds) * 1000
            own_server.kill()
            http.headers["Cookie"] = f"{cookie_name('p', event)}={SIGNER.pass_token(event, 1, now, now + 5000)}"
            assert (await ask_gate(http, event)).status_code == 200

            async def is_out() -> bool:
                return (await ask_gate(http, event)).status_code == 503

            await eventually(is_out)
            http.headers["Cookie"] = f"{cookie_name('p', event)}={SIGNER.pass_token(event, 2, now, now + 500_000)}"
            assert (await ask_gate(http, event)).status_code == 200


async def test_a_process_that_was_never_asked_about_the_event_honours_its_passes(
    own_server: RedisServer, event: str
) -> None:
    with Api(own_server.url) as first, Api(own_server.url) as second:
        async with (
            httpx.AsyncClient(base_url=first.url, headers=NAVIGATION, trust_env=False) as inside,
            httpx.AsyncClient(base_url=second.url, headers=NAVIGATION, trust_env=False) as elsewhere,
        ):
            path = f"/api/v1/admin/events/{event}"
            assert (await inside.put(path, json={"rate": 100, "burst": 100}, headers=OPERATOR)).status_code == 200
            await visit_room(inside, event)
            mine = pass_of(inside)
            own_server.kill()

            name = next(name for name in inside.cookies if name.startswith("daegi_p_"))
            assert (await ask_gate(elsewhere, event)).status_code == 503
            elsewhere.cookies.update(inside.cookies)
            answer = await ask_gate(elsewhere, event)
            assert answer.status_code == 200
            assert answer.headers["x-daegi-ticket"] == str(mine.ticket)
            assert "set-cookie" not in answer.headers

            over = SIGNER.pass_token(event, mine.ticket, mine.entered, time.time_ns() // 1_000_000 - 1000)
            elsewhere.cookies.clear()
            elsewhere.cookies.set(name, over)
            assert (await ask_gate(elsewhere, event)).status_code == 503
