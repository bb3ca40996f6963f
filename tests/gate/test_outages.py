"""The gate while Redis is away."""

import time

import httpx

from shared.dev.redis_server import RedisServer
from tests.gate.conftest import NAVIGATION
from tests.support.processes import Api
from tests.support.settings import OPERATOR
from tests.support.visits import SIGNER, ask_gate, pass_of, visit_room


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
