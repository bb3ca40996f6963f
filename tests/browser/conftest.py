"""People with real browsers before a guarded site: Chromium, a proxy that asks the gate, an api, Redis.

A page that says anything on its console, or whose policy refuses something, fails the test that visited it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.dev.redis_server import RedisServer
from tests.browser.made_up import MadeUpLine
from tests.browser.site import INSIDE, Site
from tests.support.chromium import AXE, AXE_RUN, CHROMIUM, CUT, FLAGS
from tests.support.processes import Api
from tests.support.settings import OPERATOR

async_playwright: Any
try:
    from playwright import async_api
except ImportError:
    async_playwright = None
else:
    async_playwright = async_api.async_playwright

ONE_LOOP = pytest.mark.asyncio(loop_scope="session")
"""For every module here: a browser belongs to the loop that started it."""

PICTURES = Path(__file__).parent / "screenshots"
CLOSED = {"rate": 0, "burst": 0}
OPEN = {"rate": 100, "burst": 100}
LOST = "We lost the connection. Your place is safe; we keep trying."

_SECONDS = 30
_COUNT_BROKEN_STREAMS = """
    window.brokenStreams = 0;
    window.EventSource = class extends EventSource {
        constructor(...args) {
            super(...args);
            this.addEventListener("error", () => { window.brokenStreams += 1; });
        }
    };
"""
_NO_ANSWER = "Failed to load resource"
"""Chromium calls every refusal an error."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says what is missing."""
    missing = ""
    if CHROMIUM is None:
        missing = "needs Chromium on PATH: apt-get install chromium"
    elif async_playwright is None:
        missing = "needs playwright: make test-browser installs it"
    for item in items:
        if missing and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session", autouse=True)
def _pictures() -> None:
    PICTURES.mkdir(exist_ok=True)


class Operator:
    """Whoever runs the event."""

    def __init__(self, api_url: str, event: str) -> None:
        self._api_url, self._event = api_url, event

    async def declare(self, **settings: object) -> Any:
        """Declares the event or changes it; returns what it is then."""
        async with httpx.AsyncClient(base_url=self._api_url, headers=OPERATOR, trust_env=False) as http:
            answer = await http.put(f"/api/v1/admin/events/{self._event}", json=settings)
            assert answer.status_code == 200, answer.text
            return answer.json()

    async def release(self, cookie: Any) -> None:
        """Lets go of somebody inside, by the cookie of their pass."""
        async with httpx.AsyncClient(base_url=self._api_url, trust_env=False) as http:
            named = {"Cookie": f"{cookie['name']}={cookie['value']}"}
            answer = await http.post(f"/api/v1/gate/{self._event}/release", headers=named)
            assert answer.status_code == 200, answer.text

    async def leave(self, token: str) -> None:
        """Gives a place up for somebody."""
        async with httpx.AsyncClient(base_url=self._api_url, trust_env=False) as http:
            assert (await http.delete("/api/v1/queue/leave", params={"token": token})).status_code == 200

    async def totals(self) -> Any:
        """Since it was declared."""
        return (await self.declare())["totals"]


class Tab:
    """A tab of somebody's browser, before the site."""

    def __init__(self, page: Any, *, script: bool) -> None:
        self.page, self._script = page, script

    async def ask_for(self, path: str = "/checkout") -> None:
        """Goes to a page of the site, and is led to the room if that is guarded."""
        await self.page.goto(path)

    async def sees(self, *states: str) -> None:
        """Waits for one of the room's states."""
        await self.page.wait_for_selector(", ".join(f"main[data-state={state}]" for state in states))

    async def says(self, element: str, text: str) -> None:
        """Waits until an element of the room has this text."""
        asked = "([id, text]) => document.getElementById(id)?.textContent === text"
        await self.page.wait_for_function(asked, arg=[element, text])

    async def listens(self, path: str = "/checkout") -> None:
        """Goes to a page of the site, and is told by a stream where they stand: polls are refused from then on."""
        async with self.page.expect_response(_is_stream):
            await self.ask_for(path)
        await self.page.route("**/place?*", lambda route: route.abort())

    async def is_inside(self) -> None:
        """Waits until the site itself is shown."""
        await self.page.wait_for_selector(f"h1:text-is('{INSIDE}')")

    async def has_place(self, place: int) -> None:
        """Waits until this is the place that is shown."""
        await self.says("place", str(place))

    async def is_well(self, name: str) -> None:
        """Takes a picture; asserts that nothing is cut, and that axe (where it is, and scripts run) finds nothing."""
        await self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        found = await self.page.evaluate(CUT)
        if self._script and AXE.exists():
            # Not a script of the page: its policy would refuse it.
            await self.page.evaluate(AXE.read_text())
            found += await self.page.evaluate(AXE_RUN)
        assert found == [], name


def _is_stream(response: Any) -> bool:
    return "/live?" in response.url and response.status == 200


class Person:
    """Somebody with a browser of their own: cookies, language, taste."""

    def __init__(self, context: Any, url: str, *, trouble: bool, script: bool) -> None:
        self.context, self._url, self._trouble, self._script = context, url, trouble, script
        self.faults: list[str] = []
        context.set_default_timeout(_SECONDS * 1000)

    async def tab(self) -> Tab:
        """A new one."""
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._hear)
        return Tab(page, script=self._script)

    async def cookie(self, kind: str) -> Any:
        """The cookie `w` (waiting), `p` (pass) or `v` (probe); None without one."""
        cookies = await self.context.cookies(self._url)
        return next((one for one in cookies if one["name"].startswith(f"daegi_{kind}_")), None)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not (self._trouble and message.text.startswith(_NO_ANSWER)):
            self.faults.append(f"{message.text} ({message.location.get('url')})")


class People:
    """Makes people who come to a site, by its URL."""

    def __init__(self, browser: Any, url: str, stack: AsyncExitStack) -> None:
        self._browser, self._url, self._stack = browser, url, stack
        self._made: list[Person] = []

    async def somebody(self, *, trouble: bool = False, **options: Any) -> Person:
        """With `trouble` their requests may fail; options are those of a Playwright context."""
        context = await self._browser.new_context(**{"base_url": self._url, "locale": "en-US"} | options)
        self._stack.push_async_callback(context.close)
        return self.known(context, trouble=trouble, script=options.get("java_script_enabled", True))

    def known(self, context: Any, *, trouble: bool = False, script: bool = True) -> Person:
        """Somebody whose browser was started otherwise."""
        person = Person(context, self._url, trouble=trouble, script=script)
        self._made.append(person)
        return person

    @property
    def faults(self) -> list[str]:
        """What all their pages complained of."""
        return [fault for person in self._made for fault in person.faults]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """One Chromium; with the back/forward cache, which Playwright turns off."""
    async with async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS], ignore_default_args=["--disable-back-forward-cache"]
        )
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def site_api(redis_server: RedisServer) -> Iterator[Api]:
    """One api for all tests that do not hurt it."""
    with Api(redis_server.url) as api:
        yield api


@pytest.fixture
def site(site_api: Api, event: str) -> Iterator[Site]:
    """A site that an event guards."""
    with Site(site_api.url, event) as site:
        yield site


@pytest.fixture
def operator(site_api: Api, event: str) -> Operator:
    """Who declares that event."""
    return Operator(site_api.url, event)


@pytest_asyncio.fixture(loop_scope="session")
async def people(browser: Any, site: Site) -> AsyncIterator[People]:
    """Who comes to that site."""
    async with AsyncExitStack() as stack:
        people = People(browser, site.url, stack)
        yield people
    assert people.faults == []


@pytest.fixture
def made_up() -> Iterator[MadeUpLine]:
    """Pages before a line that the test makes up."""
    line = MadeUpLine()
    with line.serving():
        yield line


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Any, made_up: MadeUpLine) -> AsyncIterator[Any]:
    """A tab before that line; a fault of the script, or of the policy, fails the test."""
    faults: list[str] = []
    context = await browser.new_context(base_url=made_up.url, locale="en-US")
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
    await page.add_init_script(_COUNT_BROKEN_STREAMS)
    yield page
    await context.close()
    assert faults == []
