"""How the page listens to the stream: as api/room/assets/room.js does."""

import asyncio
from typing import Final

import msgspec

from tests.crowd.ledger import Story
from tests.crowd.reply import Reply, decode
from tests.crowd.tab import FateError, Tab
from tests.crowd.town import Town
from tests.support.browser import Event, Stream

STREAM_FAILURES: Final = 3
"""After so many in a row the page polls for a while."""
SHORT_LIVED: Final = 20.0
"""Seconds before which a stream that breaks counts as one of several in a row."""
FIRST_EVENT: Final = 10.0
"""Seconds after which a stream without an event is of no use."""
QUIET: Final = 60.0
"""Seconds of silence, at most, after which the page polls although it listens."""
RETURN: Final = 5.0
"""Seconds within which the page listens again to a stream that broke."""
LISTEN_AGAIN: Final = 120.0
"""And after it has given up."""


class Ear:
    """The stream of one page."""

    def __init__(self, town: Town, story: Story, tab: Tab, *, listens: bool) -> None:
        self.alive_at = 0.0
        """When something was last heard, be it a comment."""
        self.age = 0.0
        """Of the last exact place that an event told, when it was heard (s)."""
        self._town, self._story, self._tab, self._listens = town, story, tab, listens
        self._stream: Stream | None = None
        self._opened = self._listen_at = 0.0
        self._hears = False
        self._broken = self._missed = 0
        self._latest, self._confirmed_at = ("", "", 0), 0

    @property
    def is_open(self) -> bool:
        """Whether there is a stream."""
        return self._stream is not None

    async def next(self, pause: float) -> Reply | None:
        """The next place that is told; None if a poll has to, `pause` seconds after the last one or later."""
        silence = min(max(5 * pause, QUIET / 4), QUIET) * self._town.random.uniform(0.75, 1)
        until = self._town.now() + (silence if self._hears else pause)
        while self._stream is not None:
            heard, event = await self._next_event(self._stream, until)
            if not heard:
                # Nothing changed, or nothing gets through.
                return None
            if event is None or event.name == "gone":
                self._give_up()
                # Everybody who listened to a process that died is here at the same time.
                await self._tab.sleep(self._town.random.uniform(0, RETURN))
            elif event.name == "place":
                if reply := self._understand(event):
                    return reply
            elif event.name == "bye":
                self.close()
                self._story.listens = False
                await self._tab.sleep(float(msgspec.json.decode(event.data)["reconnect_ms"]) / 1000)
                await self._open()
        return None

    async def compare(self, reply: Reply) -> None:
        """After a poll: two in a row that find what no event told, or no event at all, and the stream is given up."""
        now = self._town.now()
        if self._stream is not None:
            if self._hears and reply.essence != self._latest:
                self._missed += 1
                self._town.ledger.missed += 1
            if self._missed > 1 or (not self._hears and now - self._opened >= FIRST_EVENT):
                self._give_up(refused=True)
        self._latest, self._confirmed_at = reply.essence, reply.confirmed_at
        if self._stream is None and self._listens and now >= self._listen_at:
            await self._open()

    def close(self) -> None:
        """Hangs up."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _open(self) -> None:
        answer = await self._tab.listen()
        if isinstance(answer, Stream):
            self._stream, self._opened, self._hears = answer, self._town.now(), False
            self._story.listens, self._story.steady_since = True, self._opened
        else:
            self._give_up(refused=answer is not None)

    async def _next_event(self, stream: Stream, until: float) -> tuple[bool, Event | None]:
        """Whether something happened until then, and the event, None for the end. Raises FateError."""
        town, fate = self._town, self._tab.fate_at
        wakes = until if fate is None else min(until, fate)
        try:
            async with asyncio.timeout(max(wakes - town.now(), 0)):
                event = await anext(stream, None)
        except TimeoutError:
            if wakes == fate:
                raise FateError from None
            return False, None
        if event is not None:
            town.ledger.events += 1
            self.alive_at = town.now()
        return True, event

    def _understand(self, event: Event) -> Reply | None:
        """What it says; None if a poll knew better when it came. The page would have heard it then."""
        self._hears, self._missed = True, 0
        reply = decode(event.data)
        if reply.confirmed_at < self._confirmed_at:
            return None
        self._latest, self._confirmed_at = reply.essence, reply.confirmed_at
        if not reply.approximate:
            ledger, now = self._town.ledger, self._town.now()
            self.age = max(now - ledger.ours(reply.confirmed_at / 1000, now), 0.0)
            ledger.measure("event", self.age)
        return reply

    def _give_up(self, *, refused: bool = False) -> None:
        """The stream broke, was refused, or is of no use."""
        town = self._town
        self.close()
        self._story.listens, self._story.steady_since = False, town.now()
        if town.now() - self._opened >= SHORT_LIVED:
            self._broken = 0
        self._broken = STREAM_FAILURES if refused else self._broken + 1
        for_long = self._broken >= STREAM_FAILURES
        town.ledger.fallbacks += for_long
        self._listen_at = town.now() + (LISTEN_AGAIN if for_long else town.random.uniform(0, RETURN))
