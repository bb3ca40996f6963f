"""One person before the waiting room, as a browser with our page (api/room/assets/room.js) is."""

import asyncio
from typing import Final

import msgspec

from tests.crowd.ear import Ear
from tests.crowd.ledger import End, Story, Told
from tests.crowd.reply import Reply, decode
from tests.crowd.tab import FateError, Tab
from tests.crowd.town import Character, Fate, Town
from tests.support.page_script import FIRST_RETRY, GONE, back_off, state_of

TIMEOUT: Final = 15.0
"""Seconds after which the page's script gives a request up."""
SILENT: Final = 0.7
"""Of a heartbeat TTL: after it the place of somebody silent may be gone, because a heartbeat may be a quarter old."""
MOST_REDIRECTS: Final = 6
_RELEASED: Final = 0.7
"""The share of those inside who are released; the others just go."""


class _OverError(Exception):
    """There is nothing more to do."""


class Person:
    """Comes, waits, and goes in, or does what their fate is."""

    def __init__(self, town: Town, number: int, character: Character) -> None:
        self.story = Story(number, hidden=character.hidden)
        self.hopes = character.fate is not Fate.NEVER_ENTERS
        """Whether the crowd ends only with them."""
        self._town, self._is = town, character
        self._tab = Tab(town, self.story)
        self._ear = Ear(town, self.story, self._tab, listens=character.listens)
        self._key = f"{town.random.getrandbits(128):032x}"

    async def live(self) -> None:
        """From coming to the end."""
        story = self.story
        self._town.ledger.stories.append(story)
        try:
            await self._arrive(await self._come() or await self._wait())
        except FateError:
            await self._follow_fate()
        except _OverError:
            return
        finally:
            if story.end is End.WAITING and self._is.fate is Fate.NEVER_ENTERS:
                story.end = End.NEVER_ENTERED

    # The page

    async def _come(self) -> str | None:
        """Opens the page. Returns where they are sent if they need not wait."""
        tab, redirects = self._tab, 0
        url = f"{tab.room}?next=%2F"
        while True:
            page = await tab.fetch("page", "GET", url, tab.navigates)
            if page is None or page.status >= 500:
                self.story.unsure_walk_ins += 1
                await tab.back_off()
                continue
            tab.failures = 0
            if page.status == 303:
                url, redirects = page.header("location"), redirects + 1
                if not url.startswith(tab.room):
                    return url
                if redirects > MOST_REDIRECTS:
                    raise self._wrong("redirects without an end")
            elif state_of(page) == "join":
                return None
            else:
                raise self._wrong(f"a page that says {state_of(page)!r} and {page.status}")

    async def _wait(self) -> str:
        """What the script does until it is sent on: the address."""
        try:
            reply, pause = await self._join(), 0.0
            while reply.location is None:
                reply = await self._next(reply, pause)
                if reply.status in {"ready", "admitted"}:
                    if self._is.fate is not Fate.NEVER_ENTERS:
                        reply = await self._insist("enter")
                    elif self.story.until is None:
                        self.story.until = self._town.now()
                pause = self._understand(reply)
            return reply.location
        finally:
            self._ear.close()

    async def _next(self, before: Reply, pause: float) -> Reply:
        """What is heard or, after a pause, asked for. While events come, polls rest: but for one after a silence."""
        if not self._ear.is_open or before.error is not None:
            await self._tab.sleep(pause)
        elif (heard := await self._ear.next(pause)) is not None:
            self._hear(heard, self._ear.age)
            return heard
        reply = await self._insist("place")
        if reply.error is None:
            await self._ear.compare(reply)
        return reply

    async def _join(self) -> Reply:
        clicks, loses = 1 + self._is.clicks_twice, self._is.loses_join
        while True:
            if loses:
                loses, self.story.unsure_join = False, True
                await self._tab.abandon("join", self._keyed)
            else:
                replies = await asyncio.gather(*(self._call("join") for _ in range(clicks)))
                clicks = 1
                answered = [reply for reply in replies if reply is not None]
                if good := [reply for reply in answered if reply.error is None]:
                    return good[0]
                if answered:
                    await self._tab.sleep(self._understand(answered[0]))
                    continue
            await self._tab.back_off()

    async def _insist(self, what: str) -> Reply:
        """Asks until there is an answer that tells something."""
        while True:
            reply = await self._call(what)
            if reply is not None:
                return reply
            await self._tab.back_off()

    async def _call(self, what: str) -> Reply | None:
        """One call of the script; None if it failed."""
        story, asked = self.story, self._town.now()
        if what == "join":
            story.unsure_join = not story.ticket
        elif what == "enter":
            story.unsure_entry = True
        page = await self._tab.call(what, self._keyed if what == "join" else self._tab.scripts)
        if page is None or page.status >= 500:
            return None
        try:
            reply = decode(page.content)
        except msgspec.DecodeError:
            raise self._wrong(f"{what}: {page.status} and no JSON") from None
        if what == "join" and reply.waiting_token:
            self._joined(reply, asked)
        elif what == "enter":
            story.unsure_entry = False
        self._hear(reply)
        return reply

    @property
    def _keyed(self) -> dict[str, str]:
        return {**self._tab.scripts, "Idempotency-Key": self._key}

    def _joined(self, reply: Reply, asked: float) -> None:
        ledger, now = self._town.ledger, self._town.now()
        ticket = int(reply.waiting_token.split("~")[2])
        # The ticket of a join that is repeated is older than this request.
        if not self._is.loses_join and not self._tab.failures:
            ledger.hear_clock(ticket / 1e6, asked, now)
        ledger.give(self.story, ticket, now)

    # What they understand

    def _hear(self, reply: Reply, age: float = 0.0) -> None:
        """An answer of any kind, or an event of some age (s)."""
        story, tab, now = self.story, self._tab, self._town.now()
        if tab.failures:
            tab.failures, story.steady_since = 0, now
        position = reply.position or int((reply.error or {}).get("position", 0))
        if not position or not story.ticket:
            return
        low, high = reply.eta_range_sec or (None, None)
        waiting = reply.status == "waiting"
        known = Told(now, position, reply.eta_sec, low, high, reply.approximate, waiting, reply.reason, age)
        story.told.append(known)
        if tab.fate_at is None and self._is.fate in {Fate.LEAVES, Fate.VANISHES}:
            wait = reply.eta_sec or position / self._town.rate
            tab.fate_at = now + self._town.random.random() * max(wait, 1.0)

    def _understand(self, reply: Reply) -> float:
        """Seconds until they ask again; raises _OverError."""
        if reply.error is None:
            return reply.poll_after_ms / 1000
        code = str(reply.error.get("code", ""))
        if code in GONE and self.story.ticket:
            raise self._lost(code)
        if code not in {"NOT_READY", "EVENT_PAUSED", "RATE_LIMITED"}:
            raise self._wrong(code)
        after = float(reply.error.get("poll_after_ms", 0)) / 1000
        return max(after, self._tab.retry_after, FIRST_RETRY)

    @property
    def _heard_at(self) -> float:
        """When they last knew that they had a place."""
        told = self.story.told
        return max(told[-1].at if told else self.story.joined, self._ear.alive_at)

    def _lost(self, code: str) -> _OverError:
        story, town = self.story, self._town
        if story.until is not None:
            # Whoever is called may enter for a heartbeat TTL, and not for longer.
            story.end = End.NEVER_ENTERED
            return _OverError()
        expired = code == "TOKEN_EXPIRED" and town.now() - self._heard_at >= SILENT * town.heartbeat_ttl
        story.end, story.until = End.EXPIRED if expired else End.LOST, town.now()
        return _OverError()

    def _wrong(self, what: str) -> _OverError:
        self._town.ledger.wrong.append(f"person {self.story.number} got {what}")
        return _OverError()

    async def _follow_fate(self) -> None:
        story, tab = self.story, self._tab
        tab.fate_at = None
        if self._is.fate is Fate.VANISHES:
            story.end, story.until = End.VANISHED, self._heard_at
            return
        story.until = self._town.now()
        while (page := await tab.call("leave", tab.forms)) is None or page.status >= 500:
            await self._try_again()
        story.end = End.LEFT

    async def _try_again(self) -> None:
        """What somebody does who sits before it: no timer of the page."""
        tab = self._tab
        tab.failures += 1
        await asyncio.sleep(back_off(tab.failures, tab.retry_after, self._town.random))

    # Inside

    async def _arrive(self, location: str) -> None:
        """Follows the location, looks around, and goes."""
        town, draw = self._town, self._town.random
        if self.story.admitted is None:
            raise self._wrong(f"a way to {location} without a pass")
        await self._look(location)
        if not town.stay:
            return
        stays = draw.uniform(0.5, 1.5) * town.stay
        for _ in range(2):
            await asyncio.sleep(stays / 2)
            await self._look(location)
        if town.gate and draw.random() < _RELEASED:
            await self._tab.fetch("release", "POST", f"/api/v1/gate/{town.event}/release", {"Host": town.host})

    async def _look(self, location: str) -> None:
        """One request to the guarded site."""
        town, tab = self._town, self._tab
        kind, path, headers = "site", location, tab.navigates
        if town.gate:
            kind, path = "gate", f"/api/v1/gate/{town.event}/forwarded/authorize"
            headers = {**headers, "X-Forwarded-Uri": location, "X-Forwarded-Method": "GET"}
        while (page := await tab.fetch(kind, "GET", path, headers)) is None or page.status >= 500:
            await self._try_again()
        if page.header("location").startswith(tab.room) or (town.gate and page.status != 200):
            raise self._wrong(f"{page.status} with a good pass")
