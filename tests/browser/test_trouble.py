"""What people see when something breaks, or when somebody stops the line: never a blank page, never a lie."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.dev.redis_server import RedisServer
from tests.browser.conftest import CLOSED, LOST, ONE_LOOP, OPEN, Operator, People, async_playwright
from tests.browser.site import Site
from tests.support.chromium import CHROMIUM, FLAGS
from tests.support.processes import Api
from tests.support.visits import SIGNER

pytestmark = ONE_LOOP


async def test_a_line_that_is_paused_says_so_and_goes_on(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody()).tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await operator.declare(paused=True)
    await tab.sees("paused")
    await tab.has_place(1)
    await tab.is_well("paused")
    await operator.declare(paused=False, **OPEN)
    await tab.is_inside()


async def test_who_left_can_join_again(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody()
    tab = await person.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await tab.page.click("summary")
    await tab.page.click("details button")
    await tab.sees("left")
    assert await person.cookie("w") is None
    await tab.page.click("#join button")
    await tab.sees("waiting")
    await operator.declare(**OPEN)
    await tab.is_inside()


async def test_a_place_that_is_gone_is_told_and_can_be_taken_again(
    people: People, operator: Operator, event: str
) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody(trouble=True)
    tab = await person.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    cookie = await person.cookie("w")
    token = SIGNER.verify_waiting(cookie["value"])
    await operator.leave(cookie["value"])
    # Its lease is over: an exact poll finds that the place is gone.
    await person.context.add_cookies([{**cookie, "value": SIGNER.waiting(event, token.ticket, 1)}])
    await tab.sees("expired")
    await tab.is_well("expired")
    await tab.page.click("#join button")
    await tab.sees("waiting")
    assert SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket > token.ticket


async def test_offline_is_told_and_the_place_is_there_afterwards(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody(trouble=True)
    tab = await person.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await person.context.set_offline(True)
    await tab.says("trouble", LOST)
    await tab.has_place(1)
    await tab.is_well("lost")
    await person.context.set_offline(False)
    await tab.says("trouble", "")
    await operator.declare(**OPEN)
    await tab.is_inside()
    assert (await operator.totals())["joined"] == 1


async def test_after_minutes_of_sleep_the_place_is_still_there(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody()).tab()
    await tab.page.clock.install()
    await tab.ask_for()
    await tab.sees("waiting")
    # Timers of a sleeping computer fire once, late.
    await tab.page.clock.fast_forward("05:00")
    await tab.sees("waiting")
    await tab.has_place(1)
    assert (await operator.totals())["joined"] == 1


async def test_a_post_that_meets_the_gate_gets_a_page_that_says_so(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody(trouble=True)).tab()
    await tab.ask_for("/open")
    await tab.page.evaluate("""() => {
        const form = document.body.appendChild(document.createElement("form"));
        form.method = "post"; form.action = "/order"; form.submit();
    }""")
    await tab.sees("not_sent")
    await tab.is_well("not-sent")
    await tab.page.click("a.button:visible")
    await tab.sees("waiting")


@pytest_asyncio.fixture(loop_scope="session")
async def without_cookies(site: Site, people: People, tmp_path: Path) -> AsyncIterator[Any]:
    """Somebody whose browser keeps none."""
    profile = tmp_path / "Default"
    profile.mkdir()
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Preferences").write_text(json.dumps(blocked))
    async with async_playwright() as started:
        context = await started.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, args=[*FLAGS], base_url=site.url, locale="en-US"
        )
        yield people.known(context)
        await context.close()


@pytest.mark.parametrize("script", [True, False])
async def test_who_keeps_no_cookies_is_told_and_joins_nothing(
    without_cookies: Any, operator: Operator, script: bool
) -> None:
    await operator.declare(**CLOSED)
    tab = await without_cookies.tab()
    if not script:
        await tab.page.route("**/*.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
    await tab.ask_for()
    await tab.sees("cookies_off")
    await tab.is_well("cookies-off")
    assert (await operator.totals())["joined"] == 0


async def test_an_event_that_nobody_declared_is_told(people: People, operator: Operator) -> None:
    tab = await (await people.somebody(trouble=True)).tab()
    await tab.ask_for("/waiting-room/nothing?next=/checkout")
    await tab.sees("not_found")
    await tab.is_well("not-found")


@pytest.fixture
def own_api(own_server: RedisServer) -> Any:
    """An api that may be hurt, with a Redis that may be."""
    with Api(own_server.url) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def own_people(browser: Any, own_api: Api, event: str) -> AsyncIterator[People]:
    """People at a site behind it."""
    with Site(own_api.url, event) as site:
        async with AsyncExitStack() as stack:
            people = People(browser, site.url, stack)
            yield people
        assert people.faults == []


async def test_an_api_that_is_killed_under_the_page_costs_nobody_their_place(
    own_people: People, own_api: Api, event: str
) -> None:
    operator = Operator(own_api.url, event)
    await operator.declare(**CLOSED)
    person = await own_people.somebody(trouble=True)
    plain = await own_people.somebody(trouble=True, java_script_enabled=False)
    tab, other = await person.tab(), await plain.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await other.ask_for()
    await other.page.click("#join button")
    await other.sees("waiting")
    ticket = SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket
    await asyncio.to_thread(own_api.kill)
    await tab.says("trouble", LOST)
    await tab.has_place(1)
    await asyncio.to_thread(own_api.start)
    await tab.says("trouble", "")
    await tab.sees("waiting")
    assert SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket == ticket
    await operator.declare(**OPEN)
    await tab.is_inside()
    # Without a script a proxy's own page is the end of reloading: they come again, and have their place. In a new tab:
    # where the old one was spared that page, it reloads by itself and would take the address from under the test.
    again = await plain.tab()
    await again.ask_for()
    await again.is_inside()
    assert (await operator.totals())["joined"] == 2


async def test_redis_that_is_killed_under_the_page_costs_nobody_their_place(
    own_people: People, own_api: Api, own_server: RedisServer, event: str
) -> None:
    operator = Operator(own_api.url, event)
    await operator.declare(**CLOSED)
    person = await own_people.somebody(trouble=True)
    plain = await own_people.somebody(trouble=True, java_script_enabled=False)
    tab, other = await person.tab(), await plain.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await other.ask_for()
    await other.page.click("#join button")
    await other.sees("waiting")
    ticket = SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket
    await asyncio.to_thread(own_server.kill)
    await tab.says("trouble", LOST)
    await tab.has_place(1)
    await other.sees("unavailable")
    # A reload says so, too, and whoever comes now is told.
    await tab.page.reload()
    await tab.sees("unavailable", "waiting")
    stranger = await (await own_people.somebody(trouble=True)).tab()
    await stranger.ask_for("/waiting-room/" + event + "?next=/checkout")
    await stranger.sees("unavailable")
    await stranger.is_well("unavailable")
    await asyncio.to_thread(own_server.restart)
    for one in (tab, other, stranger):
        await one.sees("waiting")
    assert SIGNER.verify_waiting((await person.cookie("w"))["value"]).ticket == ticket
    await operator.declare(**OPEN)
    for one in (tab, other, stranger):
        await one.is_inside()
    assert (await operator.totals())["joined"] == 3
