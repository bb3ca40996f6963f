"""A tab of a browser: its cookies, requests and timers."""

import asyncio
from typing import Final

from tests.crowd.ledger import Story
from tests.crowd.town import Town
from tests.support.browser import NoAnswerError, Page, Stream
from tests.support.page_script import NAVIGATION, Jar, back_off, form_headers, script_headers

WAKE: Final = 60.0
"""Chrome wakes a tab that is hidden for long once in this time (s)."""
LATE: Final = 1.0
"""Whoever asks so much later than they were told to (s) is absent meanwhile."""


class FateError(Exception):
    """The time has come to leave, or to vanish."""


class Tab:
    """With our page in it."""

    def __init__(self, town: Town, story: Story) -> None:
        self.room = f"/waiting-room/{town.event}"
        origin, host = f"{town.scheme}://{town.host}", {"Host": town.host}
        self.navigates = {**host, **NAVIGATION, "Accept-Encoding": "gzip"}
        self.scripts, self.forms = {**host, **script_headers(origin)}, {**host, **form_headers(origin)}
        self.failures = 0
        """In a row."""
        self.retry_after = 0.0
        """What the last answer said (s)."""
        self.fate_at: float | None = None
        """When whoever sits before it leaves, or vanishes."""
        self._town, self._story = town, story
        self._jar = Jar()
        self._wakes = town.random.uniform(0, WAKE)

    async def fetch(self, kind: str, method: str, path: str, headers: dict[str, str]) -> Page | None:
        """One request; None if there was no answer."""
        town, ledger, asked = self._town, self._town.ledger, self._town.now()
        ledger.requests += 1
        self.retry_after = 0.0
        try:
            page = await town.client.fetch(method, path, b"", {**headers, **self._jar.headers()})
        except NoAnswerError as error:
            self._count(kind, error)
            return None
        now = town.now()
        ledger.measure(kind, now - asked - page.queued)
        if page.queued > LATE:
            self._story.steady_since = now
        self.retry_after = page.retry_after
        if page.status >= 500 or page.status == 429:
            ledger.refused[kind] += 1
        for name, value in self._jar.keep(page):
            if "_p_" in name:
                _, _, ticket, entered, *_ = value.split("~")
                ledger.admit(self._story, int(ticket), int(entered), now)
                town.last_admission = now
        return page

    async def call(self, what: str, headers: dict[str, str]) -> Page | None:
        """One call of the page's script, or its form; None if there was no answer."""
        return await self.fetch(what, "GET" if what == "place" else "POST", self._path(what), headers)

    async def abandon(self, what: str, headers: dict[str, str]) -> None:
        """The connection breaks before the answer comes."""
        self._town.ledger.requests += 1
        try:
            await self._town.client.abandon("POST", self._path(what), b"", {**headers, **self._jar.headers()})
        except NoAnswerError as error:
            self._count(what, error)

    async def listen(self) -> Stream | Page | None:
        """A stream, or the answer in place of one; None if there was none."""
        town, asked = self._town, self._town.now()
        headers = {"Host": town.host, "Sec-Fetch-Mode": "cors", **self._jar.headers()}
        town.ledger.requests += 1
        try:
            answer = await town.client.listen(self._path("live"), headers)
        except NoAnswerError as error:
            self._count("live", error)
            return None
        town.ledger.measure("live", town.now() - asked)
        if isinstance(answer, Page):
            town.ledger.refused["live"] += 1
        return answer

    async def back_off(self) -> None:
        """As the script does after a failure. Raises FateError."""
        self.failures += 1
        await self.sleep(back_off(self.failures, self.retry_after, self._town.random))

    async def sleep(self, seconds: float) -> None:
        """A timer of the page; in a hidden tab it comes late. Raises FateError when the time has come."""
        if seconds <= 0:
            return
        town = self._town
        due = wakes = town.now() + seconds
        if self._story.hidden and self._story.told:
            wakes += (self._wakes - due) % WAKE
        if self.fate_at is not None and self.fate_at < wakes:
            await asyncio.sleep(max(self.fate_at - town.now(), 0))
            raise FateError
        await asyncio.sleep(wakes - town.now())
        if (now := town.now()) - due > LATE:
            self._story.steady_since = now

    def _path(self, what: str) -> str:
        return f"{self.room}/{what}?next=%2F"

    def _count(self, kind: str, error: NoAnswerError) -> None:
        ledger = self._town.ledger
        ledger.unconnected += error.refused
        ledger.broken += not error.refused
        ledger.failed[kind] += 1
