"""Pages that listen to a real api: what they hear without polls, and what they do where they cannot listen."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.room.texts import texts_in
from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.browser.conftest import CLOSED, LOST, ONE_LOOP, OPEN, Operator, People
from tests.browser.site import Site
from tests.proxies.proxy import Nginx
from tests.support.processes import Api
from tests.support.visits import SIGNER

pytestmark = ONE_LOOP

MOVING = {"rate": 0.001, "burst": 1}
"""Somebody is let in now, and for a long time nobody."""


async def test_a_place_a_pause_and_the_turn_are_told_without_polls(people: People, operator: Operator) -> None:
    await operator.declare(**MOVING)
    # The token that is there is theirs.
    await (await (await people.somebody()).tab()).ask_for()
    first = await people.somebody(trouble=True)
    await (await first.tab()).ask_for()
    person = await people.somebody(trouble=True)
    tabs = [await person.tab(), await person.tab()]
    for tab in tabs:
        await tab.listens()
        await tab.says("ahead", "1 person is ahead of you")
    await operator.leave((await first.cookie("w"))["value"])
    for tab in tabs:
        await tab.says("ahead", "You are next")
    await operator.declare(paused=True)
    for tab in tabs:
        await tab.sees("paused")
    await operator.declare(paused=False)
    for tab in tabs:
        await tab.sees("waiting")
    await operator.declare(**OPEN)
    for tab in tabs:
        await tab.is_inside()
    totals = await operator.totals()
    assert (totals["joined"], totals["admitted"]) == (3, 2)


async def test_why_a_wait_grows_is_told_without_polls(people: People, operator: Operator) -> None:
    await operator.declare(rate=0.01, burst=1)
    await (await (await people.somebody()).tab()).ask_for()
    tab = await (await people.somebody(trouble=True)).tab()
    await tab.listens()
    await tab.page.wait_for_selector("#wait b")
    await operator.declare(rate=0.001)
    await tab.says("trouble", texts_in("en").reasons["rate_changed"])
    await tab.is_well("rate-changed")


async def test_a_place_that_is_gone_is_told(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody(trouble=True)
    tab = await person.tab()
    await tab.listens()
    await tab.page.unroute("**/place?*")
    # Only the stream knows at once: for polls their lease still runs.
    await operator.leave((await person.cookie("w"))["value"])
    await tab.sees("expired")
    assert (await operator.totals())["left"] == 1


@pytest.fixture
def own_api(own_server: RedisServer) -> Iterator[Api]:
    """An api that may be hurt."""
    with Api(own_server.url) as api:
        yield api


@asynccontextmanager
async def people_at(browser: Any, url: str) -> AsyncIterator[People]:
    """Who comes to a site."""
    async with AsyncExitStack() as stack:
        people = People(browser, url, stack)
        yield people
    assert people.faults == []


@pytest.mark.parametrize("gently", [True, False], ids=["SIGTERM", "SIGKILL"])
async def test_an_api_that_stops_loses_nobody_and_tells_them_again_when_it_is_back(
    browser: Any, own_api: Api, event: str, gently: bool
) -> None:
    operator = Operator(own_api.url, event)
    await operator.declare(**CLOSED)
    with Site(own_api.url, event) as site:
        async with people_at(browser, site.url) as people:
            person = await people.somebody(trouble=True)
            tab = await person.tab()
            await tab.listens()
            await tab.page.unroute("**/place?*")
            ticket = SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket
            await asyncio.to_thread(own_api.stop if gently else own_api.kill)
            await tab.says("trouble", LOST)
            await tab.has_place(1)
            async with tab.page.expect_response(lambda answer: "/live?" in answer.url and answer.status == 200):
                await asyncio.to_thread(own_api.start)
            await tab.says("trouble", "")
            assert SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket == ticket
            await tab.page.route("**/place?*", lambda route: route.abort())
            await operator.declare(**OPEN)
            await tab.is_inside()
    assert (await operator.totals())["joined"] == 1


async def test_a_deploy_is_not_noticed(browser: Any, own_server: RedisServer, event: str) -> None:
    with Api(own_server.url) as old, Api(own_server.url) as new, Site(old.url, event) as site:
        operator = Operator(new.url, event)
        await operator.declare(**CLOSED)
        async with people_at(browser, site.url) as people:
            tab = await (await people.somebody(trouble=True)).tab()
            await tab.listens()
            await tab.has_place(1)
            site.api_url = new.url
            async with tab.page.expect_response(lambda answer: "/live?" in answer.url and answer.status == 200):
                await asyncio.to_thread(old.stop)
            assert await tab.page.inner_text("#trouble") == ""
            await operator.declare(**OPEN)
            await tab.is_inside()


async def test_who_finds_no_seat_polls(browser: Any, own_server: RedisServer, event: str) -> None:
    with Api(own_server.url, max_listeners=1) as api, Site(api.url, event) as site:
        operator = Operator(api.url, event)
        await operator.declare(**CLOSED)
        async with people_at(browser, site.url) as people:
            first = await (await people.somebody(trouble=True)).tab()
            await first.listens()
            second = await (await people.somebody(trouble=True)).tab()
            async with second.page.expect_response(lambda answer: "/live?" in answer.url and answer.status == 503):
                await second.ask_for()
            await second.has_place(2)
            await operator.declare(paused=True)
            await second.sees("paused")
            await operator.declare(paused=False, **OPEN)
            for tab in (first, second):
                await tab.is_inside()


_GATHERS = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types *; gzip_proxied any;"
"""Buffering alone is not enough: nginx passes on what it has as soon as nothing more comes."""


class HoldsBack(Nginx):
    """nginx that compresses whatever it passes on, and gathers it for that."""

    def configure(self) -> list[str]:
        command = super().configure()
        path = self.folder / "daegi.conf"
        recipe, room = path.read_text(), "location /waiting-room/ {"
        assert room in recipe
        path.write_text(recipe.replace(room, f"{room} {_GATHERS}"))
        return command


@pytest.mark.parametrize("kind", [Nginx, HoldsBack])
async def test_behind_a_proxy_it_listens_unless_that_holds_events_back(
    browser: Any, site_api: Api, site: Site, event: str, kind: type[Nginx]
) -> None:
    operator, shop = Operator(site_api.url, event), urlsplit(site.url).port
    assert shop is not None
    with kind(gate=site_api.port, shop=shop, event=event) as proxy:
        await operator.declare(**MOVING)
        async with people_at(browser, f"http://{LOCALHOST}:{proxy.port}") as people:
            await (await (await people.somebody()).tab()).ask_for()
            tab = await (await people.somebody(trouble=True)).tab()
            if kind is Nginx:
                await tab.listens()
            else:
                async with tab.page.expect_event("requestfailed", lambda request: "/live?" in request.url):
                    await tab.ask_for()
            await tab.has_place(1)
            await operator.declare(paused=True)
            await tab.sees("paused")
            await operator.declare(paused=False, **OPEN)
            await tab.is_inside()
