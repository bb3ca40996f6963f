"""One person before the waiting room, as a browser with our page (api/room/assets/room.js) is."""

import asyncio
import random
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from tests.crowd.ledger import End, Ledger, Story, Told
from tests.support.browser import Client, Event, NoAnswerError, Page, Stream
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

TIMEOUT: Final = 15.0
"""Seconds after which the page's script gives a request up."""
WAKE: Final = 60.0
"""Chrome wakes a tab that is hidden for long once in this time (s)."""
LATE: Final = 1.0
"""Whoever asks so much later than they were told to (s) is absent meanwhile."""
SILENT: Final = 0.7
"""Of a heartbeat TTL: after it the place of somebody silent may be gone, because a heartbeat may be a quarter old."""
MOST_REDIRECTS: Final = 6
STREAM_FAILURES: Final = 3
"""After so many in a row the page polls."""
KEEP_ALIVE: Final = 40.0
"""Seconds of silence after which a stream is dead: comments come every 15 s."""
_RELEASED: Final = 0.7
"""The share of those inside who are released; the others just go."""


class Fate(Enum):
    """What somebody will do."""

    ENTERS = "goes in when it is their turn"
    LEAVES = "presses leave"
    VANISHES = "never asks again"
    NEVER_ENTERS = "waits for ever"


@dataclass(slots=True)
class Town:
    """What all of them share."""

    client: Client
    ledger: Ledger
    event: str
    host: str
    scheme: str
    gate: bool
    """Whether the gate can be asked, as a proxy would; else people follow the location by themselves."""
    random: random.Random
    rate: float
    heartbeat_ttl: float
    stay: float
    began: float
    inside: int = 0
    last_admission: float = 0.0

    def now(self) -> float:
        """In s since the crowd began."""
        return time.monotonic() - self.began


class Character(NamedTuple):
    """How somebody behaves."""

    fate: Fate
    hidden: bool = False
    listens: bool = False
    loses_join: bool = False
    clicks_twice: bool = False


class _Reply(msgspec.Struct, gc=False):
    """What the room answers in JSON, whatever was asked."""

    location: str | None = None
    waiting_token: str = ""
    status: str = ""
    position: int = 0
    eta_sec: float | None = None
    eta_range_sec: tuple[float, float] | None = None
    poll_after_ms: int = 0
    approximate: bool = False
    error: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Reply).decode


class _FateError(Exception):
    """The time has come to leave, or to vanish."""


class _OverError(Exception):
    """There is nothing more to do."""


class Person:
    """Comes, waits, and goes in, or does what their fate is."""

    def __init__(self, town: Town, number: int, character: Character) -> None:
        self.story = Story(number, hidden=character.hidden, listens=character.listens)
        self.hopes = character.fate is not Fate.NEVER_ENTERS
        """Whether the crowd ends only with them."""
        self._town, self._is = town, character
        self._room = f"/waiting-room/{town.event}"
        origin, host = f"{town.scheme}://{town.host}", {"Host": town.host}
        self._navigates = {**host, **NAVIGATION, "Accept-Encoding": "gzip"}
        self._scripts, self._forms = {**host, **script_headers(origin)}, {**host, **form_headers(origin)}
        self._key = f"{town.random.getrandbits(128):032x}"
        self._jar = Jar()
        self._wakes = town.random.uniform(0, WAKE)
        self._fate_at: float | None = None
        self._heard = 0.0
        self._failures = self._stream_failures = 0
        self._retry_after = 0.0
        self._stream: Stream | None = None

    async def live(self) -> None:
        """From coming to the end."""
        town, story = self._town, self.story
        town.ledger.stories.append(story)
        try:
            await self._arrive(await self._come() or await self._wait())
        except _FateError:
            await self._follow_fate()
        except _OverError:
            return
        finally:
            if self._stream is not None:
                self._stream.close()
            if story.end is End.WAITING and self._is.fate is Fate.NEVER_ENTERS:
                story.end = End.NEVER_ENTERED

    # The page

    async def _come(self) -> str | None:
        """Opens the page. Returns where they are sent if they need not wait."""
        url, redirects = f"{self._room}?next=%2F", 0
        while True:
            page = await self._fetch("page", "GET", url, self._navigates)
            if page is None or page.status >= 500:
                self.story.unsure_entry = True
                await self._back_off()
                continue
            self._failures = 0
            if page.status == 303:
                url, redirects = page.header("location"), redirects + 1
                if not url.startswith(self._room):
                    return url
                if redirects > MOST_REDIRECTS:
                    raise self._wrong("redirects without an end")
            elif state_of(page) == "join":
                return None
            else:
                raise self._wrong(f"a page that says {state_of(page)!r} and {page.status}")

    async def _wait(self) -> str:
        """What the script does until it is sent on: the address."""
        reply, pause = await self._join(), 0.0
        while reply.location is None:
            if self.story.listens and not pause:
                reply = await self._listen()
            else:
                await self._sleep(pause)
                reply = await self._insist("place")
            if reply.status in {"ready", "admitted"}:
                if self._is.fate is not Fate.NEVER_ENTERS:
                    reply = await self._insist("enter")
                elif self.story.until is None:
                    self.story.until = self._town.now()
            pause = self._understand(reply)
        return reply.location

    async def _join(self) -> _Reply:
        clicks, loses = 1 + self._is.clicks_twice, self._is.loses_join
        while True:
            if loses:
                loses = False
                await self._lose_join()
            else:
                replies = await asyncio.gather(*(self._call("join") for _ in range(clicks)))
                clicks = 1
                answered = [reply for reply in replies if reply is not None]
                if good := [reply for reply in answered if reply.error is None]:
                    self._failures = 0
                    return good[0]
                if answered:
                    await self._sleep(self._understand(answered[0]))
                    continue
            await self._back_off()

    async def _lose_join(self) -> None:
        """The connection breaks before the answer to the join comes."""
        story, path = self.story, f"{self._room}/join?next=%2F"
        headers = {**self._scripts, "Idempotency-Key": self._key, **self._jar.headers()}
        self._town.ledger.requests += 1
        story.unsure_join = True
        try:
            await self._town.client.abandon("POST", path, b"", headers)
        except NoAnswerError:
            self._town.ledger.unconnected += 1

    async def _insist(self, what: str) -> _Reply:
        """Asks until there is an answer that tells something."""
        while True:
            reply = await self._call(what)
            if reply is not None:
                return reply
            await self._back_off()

    async def _call(self, what: str) -> _Reply | None:
        """One call of the script; None if it failed."""
        headers, asked = self._scripts, self._town.now()
        if what == "join":
            headers, self.story.unsure_join = {**headers, "Idempotency-Key": self._key}, not self.story.ticket
        elif what == "enter":
            self.story.unsure_entry = True
        method = "GET" if what == "place" else "POST"
        page = await self._fetch(what, method, f"{self._room}/{what}?next=%2F", headers)
        if page is None or page.status >= 500:
            return None
        try:
            reply = _decode(page.content)
        except msgspec.DecodeError:
            raise self._wrong(f"{what}: {page.status} and no JSON") from None
        if what == "join" and reply.waiting_token:
            self._joined(reply, asked)
        elif what == "enter":
            self.story.unsure_entry = False
        self._hear(reply)
        return reply

    def _joined(self, reply: _Reply, asked: float) -> None:
        town, now = self._town, self._town.now()
        ticket = int(reply.waiting_token.split("~")[2])
        # The ticket of a join that is repeated is older than this request.
        if not self._is.loses_join and not self._failures:
            town.ledger.hear_clock(ticket / 1e6, asked, now)
        town.ledger.give(self.story, ticket, now)

    # The stream

    async def _listen(self) -> _Reply:
        """What comes next. Polls instead if there is no stream, for good once it has failed three times."""
        while self.story.listens:
            if self._stream is None and not await self._open_stream():
                continue
            event = await self._next_event()
            if event is None:
                self._lose_stream()
            elif event.name in {"place", "gone"}:
                self._stream_failures = 0
                reply = _decode(event.data)
                self._hear(reply)
                return reply
            elif event.name == "bye":
                self._lose_stream(failed=False)
                await self._sleep(float(msgspec.json.decode(event.data)["reconnect_ms"]) / 1000)
        return await self._insist("place")

    async def _open_stream(self) -> bool:
        town, asked = self._town, self._town.now()
        headers = {"Host": town.host, "Sec-Fetch-Mode": "cors", **self._jar.headers()}
        town.ledger.requests += 1
        try:
            answer = await town.client.listen(f"{self._room}/live?next=%2F", headers)
        except NoAnswerError as error:
            self._count_failure("live", error)
            self._lose_stream()
            await self._back_off()
            return False
        town.ledger.measure("live", town.now() - asked)
        if isinstance(answer, Page):
            self._lose_stream(for_good=True)
            return False
        self._stream = answer
        return True

    async def _next_event(self) -> Event | None:
        assert self._stream is not None
        now, due = self._town.now(), self._fate_at
        patience = KEEP_ALIVE if due is None else min(KEEP_ALIVE, max(due - now, 0))
        try:
            async with asyncio.timeout(patience):
                event = await anext(self._stream, None)
        except TimeoutError:
            if due is not None and self._town.now() >= due:
                raise _FateError from None
            return None
        self._town.ledger.events += event is not None
        return event

    def _lose_stream(self, *, failed: bool = True, for_good: bool = False) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if failed:
            self._stream_failures += 1
            self.story.steady_since = self._town.now()
        if for_good or self._stream_failures >= STREAM_FAILURES:
            self.story.listens = False
            self._town.ledger.fallbacks += 1

    # What they understand

    def _hear(self, reply: _Reply) -> None:
        """An answer of any kind."""
        story, now = self.story, self._town.now()
        if self._failures:
            self._failures, story.steady_since = 0, now
        self._heard = now
        error = reply.error or {}
        position = reply.position or int(error.get("position", 0))
        if not position or not story.ticket:
            return
        low, high = reply.eta_range_sec or (None, None)
        waiting = reply.status == "waiting"
        story.told.append(Told(now, position, reply.eta_sec, low, high, reply.approximate, waiting))
        if self._fate_at is None and self._is.fate in {Fate.LEAVES, Fate.VANISHES}:
            wait = reply.eta_sec or position / self._town.rate
            self._fate_at = now + self._town.random.random() * max(wait, 1.0)

    def _understand(self, reply: _Reply) -> float:
        """Seconds until they ask again, 0 for those who need not; raises _OverError."""
        if reply.error is None:
            return 0.0 if self.story.listens else reply.poll_after_ms / 1000
        code = str(reply.error.get("code", ""))
        if code in GONE and self.story.ticket:
            raise self._lost(code)
        if code not in {"NOT_READY", "EVENT_PAUSED", "RATE_LIMITED"}:
            raise self._wrong(code)
        after = float(reply.error.get("poll_after_ms", 0)) / 1000
        return max(after, self._retry_after, FIRST_RETRY)

    def _lost(self, code: str) -> _OverError:
        story, town = self.story, self._town
        told = [one.at for one in story.told]
        silent = town.now() - (told[-1] if told else story.joined)
        expired = code == "TOKEN_EXPIRED" and silent >= SILENT * town.heartbeat_ttl
        story.end, story.until = End.EXPIRED if expired else End.LOST, town.now()
        return _OverError()

    def _wrong(self, what: str) -> _OverError:
        self._town.ledger.wrong.append(f"person {self.story.number} got {what}")
        return _OverError()

    async def _follow_fate(self) -> None:
        story, town = self.story, self._town
        if self._is.fate is Fate.VANISHES:
            story.end, story.until = End.VANISHED, self._heard
            return
        story.until = town.now()
        while True:
            page = await self._fetch("leave", "POST", f"{self._room}/leave?next=%2F", self._forms)
            if page is not None and page.status < 500:
                story.end = End.LEFT
                return
            self._failures += 1
            await asyncio.sleep(back_off(self._failures, self._retry_after, town.random))

    # Inside

    async def _arrive(self, location: str) -> None:
        """Follows the location, looks around, and goes."""
        town, draw = self._town, self._town.random
        if self.story.admitted is None:
            raise self._wrong(f"a way to {location} without a pass")
        await self._look(location)
        if not town.stay:
            return
        town.inside += 1
        try:
            stays = draw.uniform(0.5, 1.5) * town.stay
            for _ in range(2):
                await asyncio.sleep(stays / 2)
                await self._look(location)
        finally:
            town.inside -= 1
        if town.gate and draw.random() < _RELEASED:
            headers = {"Host": town.host}
            await self._fetch("release", "POST", f"/api/v1/gate/{town.event}/release", headers)

    async def _look(self, location: str) -> None:
        """One request to the guarded site."""
        town = self._town
        while True:
            if town.gate:
                asked = {"X-Forwarded-Uri": location, "X-Forwarded-Method": "GET"}
                path = f"/api/v1/gate/{town.event}/forwarded/authorize"
                page = await self._fetch("gate", "GET", path, {**self._navigates, **asked})
            else:
                page = await self._fetch("site", "GET", location, self._navigates)
            if page is not None and page.status < 500:
                break
            self._failures += 1
            await asyncio.sleep(back_off(self._failures, self._retry_after, town.random))
        if page.header("location").startswith(self._room) or (town.gate and page.status != 200):
            raise self._wrong(f"{page.status} with a good pass")

    # How they ask

    async def _fetch(self, kind: str, method: str, path: str, headers: dict[str, str]) -> Page | None:
        """One request; None if there was no answer."""
        town, ledger, asked = self._town, self._town.ledger, self._town.now()
        ledger.requests += 1
        self._retry_after = 0.0
        try:
            page = await town.client.fetch(method, path, b"", {**headers, **self._jar.headers()})
        except NoAnswerError as error:
            self._count_failure(kind, error)
            return None
        now = town.now()
        ledger.measure(kind, now - asked)
        self._retry_after = page.retry_after
        if page.status >= 500 or page.status == 429:
            ledger.refused[kind] += 1
        for name, value in self._jar.keep(page):
            if "_p_" in name:
                _, _, ticket, entered, *_ = value.split("~")
                ledger.admit(self.story, int(ticket), int(entered), now)
                town.last_admission = now
        return page

    def _count_failure(self, kind: str, error: NoAnswerError) -> None:
        ledger = self._town.ledger
        ledger.unconnected += error.refused
        ledger.broken += not error.refused
        ledger.failed[kind] += 1

    async def _back_off(self) -> None:
        self._failures += 1
        await self._sleep(back_off(self._failures, self._retry_after, self._town.random))

    async def _sleep(self, seconds: float) -> None:
        """A timer of the page; in a hidden tab it comes late. Raises _FateError when the time has come."""
        if seconds <= 0:
            return
        town = self._town
        due = wakes = town.now() + seconds
        if self._is.hidden and self.story.told:
            wakes += (self._wakes - due) % WAKE
        if self._fate_at is not None and self._fate_at < wakes:
            await asyncio.sleep(max(self._fate_at - town.now(), 0))
            raise _FateError
        await asyncio.sleep(wakes - town.now())
        if (now := town.now()) - due > LATE:
            self.story.steady_since = now
