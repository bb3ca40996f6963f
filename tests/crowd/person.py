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
FIRST_EVENT: Final = 10.0
"""Seconds after which a stream without an event is of no use."""
QUIET: Final = 60.0
"""Seconds of silence, at most, after which the page polls although it listens."""
RETURN: Final = 5.0
"""Seconds within which the page listens again to a stream that broke."""
LISTEN_AGAIN: Final = 120.0
"""And after it has given up."""
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
    state: str = ""
    position: int = 0
    eta_sec: float | None = None
    eta_range_sec: tuple[float, float] | None = None
    poll_after_ms: int = 0
    approximate: bool = False
    reason: str = ""
    error: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Reply).decode


def _essence(reply: _Reply) -> tuple[str, str, int]:
    """What an event has to tell when it changes."""
    return reply.status, reply.state, reply.position


class _FateError(Exception):
    """The time has come to leave, or to vanish."""


class _OverError(Exception):
    """There is nothing more to do."""


class Person:
    """Comes, waits, and goes in, or does what their fate is."""

    def __init__(self, town: Town, number: int, character: Character) -> None:
        self.story = Story(number, hidden=character.hidden)
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
        self._failures = 0
        self._retry_after = 0.0
        self._stream: Stream | None = None
        self._opened = self._listen_at = 0.0
        self._hears = False
        self._broken = self._missed = 0
        self._latest = ("", "", 0)

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
            reply = await self._next(reply, pause)
            if reply.status in {"ready", "admitted"}:
                if self._is.fate is not Fate.NEVER_ENTERS:
                    reply = await self._insist("enter")
                elif self.story.until is None:
                    self.story.until = self._town.now()
            pause = self._understand(reply)
        return reply.location

    async def _next(self, before: _Reply, pause: float) -> _Reply:
        """What is heard or, after a pause, asked for. While events come, polls rest: but for one after a silence."""
        if self._stream is None or before.error is not None:
            await self._sleep(pause)
        else:
            silence = min(max(5 * pause, QUIET / 4), QUIET) * self._town.random.uniform(0.75, 1)
            reply = await self._listen(silence if self._hears else pause)
            if reply is not None:
                return reply
        reply = await self._insist("place")
        if reply.error is None:
            await self._compare(reply)
        return reply

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

    async def _listen(self, silence: float) -> _Reply | None:
        """The next event that tells where they stand; None if a poll has to."""
        town = self._town
        while self._stream is not None:
            heard, event = await self._next_event(silence)
            if not heard:
                # Nothing changed, or nothing gets through.
                return None
            if event is None or event.name == "gone":
                self._unheard()
                # Everybody who listened to a process that died is here at the same time.
                await self._sleep(town.random.uniform(0, RETURN))
            elif event.name == "place":
                self._hears, self._broken, self._missed = True, 0, 0
                reply = _decode(event.data)
                self._latest = _essence(reply)
                self._measure_event(reply)
                self._hear(reply)
                return reply
            elif event.name == "bye":
                self._close_stream()
                await self._sleep(float(msgspec.json.decode(event.data)["reconnect_ms"]) / 1000)
                await self._open_stream()
        return None

    async def _next_event(self, seconds: float) -> tuple[bool, Event | None]:
        """Whether something happened in this time, and the event, None for the end. Raises _FateError."""
        assert self._stream is not None
        due, until = self._fate_at, self._town.now() + seconds
        wakes = until if due is None else min(until, due)
        try:
            async with asyncio.timeout(max(wakes - self._town.now(), 0)):
                event = await anext(self._stream, None)
        except TimeoutError:
            if wakes == due:
                raise _FateError from None
            return False, None
        self._town.ledger.events += event is not None
        return True, event

    async def _open_stream(self) -> None:
        town, asked = self._town, self._town.now()
        headers = {"Host": town.host, "Sec-Fetch-Mode": "cors", **self._jar.headers()}
        town.ledger.requests += 1
        try:
            answer = await town.client.listen(f"{self._room}/live?next=%2F", headers)
        except NoAnswerError as error:
            self._count_failure("live", error)
            self._unheard()
            return
        town.ledger.measure("live", town.now() - asked)
        if isinstance(answer, Page):
            town.ledger.refused["live"] += 1
            self._unheard(refused=True)
            return
        self._stream, self._opened, self._hears = answer, town.now(), False
        self.story.listens, self.story.steady_since = True, town.now()

    def _measure_event(self, reply: _Reply) -> None:
        """How old an exact place is when it is heard: its token says when Redis was asked."""
        _, _, _, *rest = reply.waiting_token.split("~")
        if len(rest) == 2 and not reply.approximate:
            now = self._town.now()
            self._town.ledger.measure("event", max(now - self._town.ledger.ours(int(rest[0]) / 1000, now), 0.0))

    def _unheard(self, *, refused: bool = False) -> None:
        """A stream broke, was refused, or is of no use."""
        town = self._town
        self._close_stream()
        self.story.steady_since = town.now()
        self._broken = STREAM_FAILURES if refused else self._broken + 1
        given_up = self._broken >= STREAM_FAILURES
        town.ledger.fallbacks += given_up
        self._listen_at = town.now() + (LISTEN_AGAIN if given_up else town.random.uniform(0, RETURN))

    def _close_stream(self) -> None:
        self.story.listens = False
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _compare(self, reply: _Reply) -> None:
        """After a poll: two in a row that find what no event told, or no event at all, and the stream is given up."""
        told, town = _essence(reply), self._town
        if self._stream is not None:
            if self._hears and told != self._latest:
                self._missed += 1
                town.ledger.missed += 1
            if self._missed > 1 or (not self._hears and town.now() - self._opened >= FIRST_EVENT):
                self._unheard(refused=True)
        self._latest = told
        if self._stream is None and self._is.listens and town.now() >= self._listen_at:
            await self._open_stream()

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
        known = Told(now, position, reply.eta_sec, low, high, reply.approximate, waiting, reply.reason)
        story.told.append(known)
        if self._fate_at is None and self._is.fate in {Fate.LEAVES, Fate.VANISHES}:
            wait = reply.eta_sec or position / self._town.rate
            self._fate_at = now + self._town.random.random() * max(wait, 1.0)

    def _understand(self, reply: _Reply) -> float:
        """Seconds until they ask again; raises _OverError."""
        if reply.error is None:
            return reply.poll_after_ms / 1000
        code = str(reply.error.get("code", ""))
        if code in GONE and self.story.ticket:
            raise self._lost(code)
        if code not in {"NOT_READY", "EVENT_PAUSED", "RATE_LIMITED"}:
            raise self._wrong(code)
        after = float(reply.error.get("poll_after_ms", 0)) / 1000
        return max(after, self._retry_after, FIRST_RETRY)

    def _lost(self, code: str) -> _OverError:
        story, town = self.story, self._town
        if story.until is not None:
            # Whoever is called may enter for a heartbeat TTL, and not for longer.
            story.end = End.NEVER_ENTERED
            return _OverError()
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
        ledger.measure(kind, now - asked - page.queued)
        if page.queued > LATE:
            self.story.steady_since = now
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
