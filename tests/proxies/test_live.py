"""Live updates through the recipes: an event arrives when it is sent, not when a buffer is full."""

import httpx

from tests.proxies.conftest import EVENT, Site
from tests.support.calls import join, leave
from tests.support.listening import listening
from tests.support.processes import Api
from tests.support.visits import waiting_cookie


async def test_an_event_arrives_at_once(site: Site, gate: Api) -> None:
    async with (
        httpx.AsyncClient(base_url=gate.url, trust_env=False) as http,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", trust_env=False, timeout=20) as visitor,
    ):
        first, second = [(await join(http, EVENT))["waiting_token"] for _ in range(2)]
        headers = {"Host": "shop.example", "Cookie": waiting_cookie(EVENT, second)}
        async with listening(visitor, path=f"/waiting-room/{EVENT}/live", headers=headers) as stream:
            position = (await stream.next()).data["position"]
            # Nothing ends the stream: what a proxy kept back would never come.
            await leave(http, first)
            await stream.until(position=position - 1)
        await leave(http, second)
