"""One visitor of a guarded site: comes, waits on the page as its script does, looks around inside, and goes."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from tests.chaos.gauge import ENTER, JOIN, LEAVE, STATUS, Gauge
from tests.chaos.ledger import LOST, WRONG, Ledger
from tests.chaos.pass_book import RELEASE_MS, PassBook, Session, now_ms
from tests.chaos.shop import MARK
from tests.support.browser import Client, NoAnswerError, Page
from tests.support.page_script import (
    FIRST_RETRY,
    GONE,
    NAVIGATION,
    Jar,
    back_off,
    form_headers,
    script_headers,
    state_of,
)

HOST: Final = "shop.example"
SCRIPT: Final = script_headers(f"http://{HOST}")
FORM: Final = form_headers(f"http://{HOST}")

STAY: Final = (0.5, 2.0)
"""Seconds from the first look to the last."""
LOOKS: Final = (2, 5)
"""Requests meanwhile."""
JUST_GO: Final = 0.05
"""The share of those who are not released: they close the window, and come back about when their session ends."""
TRY_AGAIN: Final = 0.1
"""The share of the released who try their old pass again."""
RELOAD: Final = 0.03
"""The share of polls in place of which the page is loaded again."""
MOST_REDIRECTS: Final = 10
_KINDS: Final = {"join": JOIN, "place": STATUS, "enter": ENTER}


@dataclass(slots=True)
class Town:
    """What all visitors share: `site` is the proxy in front of the shop, `daegi` what the shop itself asks."""

    site: Client
    daegi: Client
    event: str
    session_ttl: float
    book: PassBook
    ledger: Ledger
    gauge: Gauge
    random: random.Random
    outside: int = 0
    """Visitors who have not come in yet."""
    arrived: int = 0
    last_arrival: float = field(default_factory=time.monotonic)
    """When somebody came in last (s)."""
    loading_room: int = 0
    """Visitors to the room without a place, who may be walking in at this moment."""
    lost_walk_ins: int = 0
    """Those of them to whom it may have happened without an answer."""
    ways: Counter[str] = field(default_factory=Counter)


class Request(NamedTuple):
    """What is sent."""

    method: str
    path: str
    content: bytes
    headers: dict[str, str]


class GivenUpError(Exception):
    """An answer that must never occur."""


class Visitor:
    """Keeps cookies as a browser does, and asks until they are in."""

    def __init__(self, town: Town, number: int) -> None:
        self._town, self._number = town, number
        self._path = f"/item/{number}"
        self._room = f"/waiting-room/{town.event}"
        self._cookies = Jar()
        self._session: Session | None = None
        self._has_place = False

    async def live(self) -> None:
        """The whole visit."""
        town = self._town
        town.outside += 1
        try:
            await self._come_in()
        except GivenUpError:
            return
        finally:
            town.outside -= 1
        town.arrived += 1
        town.last_arrival = time.monotonic()
        town.ways["waited" if self._has_place else "walked in"] += 1
        await self._look_around()

    # The way in

    async def _come_in(self) -> None:
        url = self._path
        while True:
            page = await self._navigate(url)
            if page.header(MARK):
                return
            match state_of(page):
                case "join" | "expired" as now:
                    if now == "expired":
                        self._lose_place()
                    url = await self._wait("join")
                case "waiting" | "full" | "ready":
                    url = await self._wait("place")
                case now:
                    raise self._wrong(f"a page that says {now} and {page.status}")

    async def _navigate(self, url: str) -> Page:
        """The page at the end of all redirects; loads it again after failures."""
        failures = redirects = 0
        while True:
            page = await self._visit_room(url) if url.startswith(self._room) else await self._fetch("GET", url)
            if page is None or page.status >= 500:
                failures += 1
                await asyncio.sleep(back_off(failures, page.retry_after if page else 0, self._town.random))
            elif page.status in (302, 303):
                url, redirects = page.header("location"), redirects + 1
                if redirects > MOST_REDIRECTS:
                    raise self._wrong("redirects without an end")
            elif page.status == 200:
                return page
            else:
                raise self._wrong(f"{page.status} for {url}")

    async def _visit_room(self, url: str) -> Page | None:
        """Whoever has no place in line may be let in by it."""
        town, may_walk_in = self._town, not self._cookies.has("_w_")
        town.loading_room += may_walk_in
        try:
            page = await self._fetch("GET", url)
        finally:
            town.loading_room -= may_walk_in
        if may_walk_in and (page is None or page.status >= 500):
            town.lost_walk_ins += 1
        return page

    async def _wait(self, what: str) -> str:
        """What the page's script does, until it is sent on: the address where to go."""
        while True:
            answer = await self._insist(what)
            match answer:
                case {"location": str(url)}:
                    return url
                case {"error": {"code": code, "poll_after_ms": after}}:
                    what = await self._understand(what, code, after / 1000)
                case {"error": {"code": code}}:
                    what = await self._understand(what, code, FIRST_RETRY)
                case _ if what == "join":
                    what, self._has_place = "place", True
                case {"status": "waiting", "poll_after_ms": after}:
                    await asyncio.sleep(after / 1000)
                    if self._town.random.random() < RELOAD:
                        return f"{self._room}?next={self._path}"
                case _:
                    what = "enter"

    async def _understand(self, what: str, code: str, after: float) -> str:
        """What comes after a refusal."""
        if code in GONE:
            if self._has_place:
                self._lose_place()
            return "join"
        if code != "NOT_READY":
            raise self._wrong(f"{what}: {code}")
        await asyncio.sleep(max(after, FIRST_RETRY))
        return "place"

    async def _insist(self, what: str) -> dict[str, Any]:
        """The first answer that tells something. After failures it waits as the page does."""
        method, path, failures = "GET" if what == "place" else "POST", f"{self._room}/{what}?next={self._path}", 0
        with self._town.gauge.wish(_KINDS[what]) as wish:
            while True:
                page = await self._fetch(method, path, SCRIPT, kind=_KINDS[what])
                if page and page.status < 500 and page.header("content-type").startswith("application/json"):
                    wish.granted = True
                    return dict(msgspec.json.decode(page.content))
                failures += 1
                await asyncio.sleep(back_off(failures, page.retry_after if page else 0, self._town.random))

    def _lose_place(self) -> None:
        self._town.ledger.miss(LOST, f"visitor {self._number} has no place any more", time.monotonic())
        self._has_place = False

    # Inside

    async def _look_around(self) -> None:
        town, draw = self._town, self._town.random
        looks = draw.randint(*LOOKS)
        pause = draw.uniform(*STAY) / looks
        for _ in range(looks):
            await asyncio.sleep(pause)
            await self._look(*draw.choice((("GET", NAVIGATION), ("GET", SCRIPT), ("POST", FORM))))
        if draw.random() < JUST_GO:
            town.ways["just went"] += 1
            await asyncio.sleep(town.session_ttl * draw.uniform(0.7, 1.3))
            await self._look("GET", NAVIGATION)
            return
        kept = self._cookies.copy()
        await self._release()
        if draw.random() < TRY_AGAIN:
            await asyncio.sleep(RELEASE_MS / 1000 + draw.uniform(1.1, 2))
            self._cookies = kept
            # Should it get through, the book notices.
            await self._fetch("GET", self._path)

    async def _look(self, method: str, headers: dict[str, str]) -> None:
        assert self._session is not None
        page = await self._fetch(method, self._path, headers, content=b"a=1" if method == "POST" else b"")
        if page is None or not page.header(MARK):
            self._town.book.turned_away(self._session, str(page.status) if page else "no answer")

    async def _release(self) -> None:
        """The shop tells Daegi that this visitor is done."""
        town = self._town
        assert self._session is not None
        self._session.released = now_ms()
        request = Request("POST", f"/api/v1/gate/{town.event}/release", b"", self._cookies.headers())
        failures = 0
        with town.gauge.wish(LEAVE) as wish:
            while True:
                page = await self._ask(town.daegi, request, LEAVE)
                if page and page.status == 200:
                    wish.granted = True
                    town.ways["released"] += 1
                    return
                if page and page.status < 500:
                    self._wrong(f"a release: {page.status}")
                    return
                failures += 1
                await asyncio.sleep(back_off(failures, 0, self._town.random))

    # How they ask

    async def _fetch(
        self,
        method: str,
        path: str,
        headers: dict[str, str] = NAVIGATION,
        content: bytes = b"",
        kind: str = "page",
    ) -> Page | None:
        """One request to the site; None if there was no answer."""
        sent = {"Host": HOST, **headers, **self._cookies.headers()}
        page = await self._ask(self._town.site, Request(method, path, content, sent), kind)
        for name, value in self._cookies.keep(page) if page else ():
            if "_p_" in name:
                self._session = self._town.book.give(self._number, value)
        return page

    async def _ask(self, client: Client, request: Request, kind: str) -> Page | None:
        gauge = self._town.gauge
        gauge.requests += 1
        try:
            page = await client.fetch(*request)
        except NoAnswerError as error:
            gauge.unconnected += error.refused
            gauge.broken += not error.refused
            return None
        if page.status >= 500:
            gauge.refusals[kind] += 1
        return page

    def _wrong(self, text: str) -> GivenUpError:
        self._town.ledger.miss(WRONG, f"visitor {self._number} got {text}", time.monotonic())
        return GivenUpError(text)
