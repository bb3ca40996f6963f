"""Polls from memory: under a valid lease, people far back get their place from the published position index.

Nothing is kept per person, so every process gives the same answer.
"""

import asyncio
from bisect import bisect_right
from dataclasses import dataclass

from api.serving.clock import RedisClock
from api.serving.slips import Reason, Slips
from shared.errors import DaegiError
from shared.line.line import Line
from shared.line.replies import Index, Standing
from shared.settings import Settings
from shared.tokens.signer import WaitingToken

EXACT_ZONE = 1000
"""Places at the front that are always polled exactly."""

FRESH_MS = 3000
LATE_MS = 10_000
OUTAGE_MS = 60_000
"""Maximum age of an index: that places people, that is soon followed by another one, and that places people while
Redis is unavailable.
"""

_RECENT_MS = 1000

_REFETCH_MS, _REFETCH_SMALL_MS = 500, 20_000
_MAX_EVENTS = 10_000


@dataclass(slots=True)
class _Cached:
    """What this process knows about an event."""

    standing: Standing
    """From the last exact answer."""
    slips: Slips
    index: Index | None = None
    exact_zone: float = 0.0
    fetched_at: int = 0
    """When the index was last fetched, in ms; if that is ahead, the clock has jumped back."""


def interpolate(index: Index, ticket: int) -> int:
    """The place of a ticket, interpolated between the milestones around it. As of `computed_at` the error is less
    than the distance between them.

    A ticket before the first milestone gets that one's place, a ticket behind the last one gets the place after it.
    Without milestones the place is 0.
    """
    tickets, positions = index.tickets, index.positions
    if not tickets:
        return 0
    i = bisect_right(tickets, ticket) - 1
    if i < 0:
        return positions[0]
    if tickets[i] == ticket:
        return positions[i]
    if i == len(tickets) - 1:
        return positions[i] + 1
    before, place = tickets[i], positions[i]
    return place + (ticket - before) * (positions[i + 1] - place) // (tickets[i + 1] - before)


class PositionCache:
    """The indexes of the events polled here, fetched on demand, at most twice a second per event."""

    def __init__(self, line: Line, clock: RedisClock, settings: Settings) -> None:
        self._line = line
        self._clock = clock
        self._lease_ms = int(settings.heartbeat_ttl * 1000 / 4)
        self._ready_s = settings.ready_ttl
        # Four times as long as the longest pause between two polls.
        self._slips_s = settings.heartbeat_ttl / 2
        self._events: dict[str, _Cached] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    def observe(self, event_id: str, standing: Standing) -> None:
        """Remembers how the event stands, from an exact answer."""
        cached = self._events.get(event_id)
        if cached is None:
            if len(self._events) >= _MAX_EVENTS:
                self._events.clear()
            self._events[event_id] = _Cached(standing, Slips(standing, self._slips_s))
        else:
            cached.standing = standing
            cached.slips.observe(standing)

    def standing(self, event_id: str) -> Standing | None:
        """How the event stood when this process last heard of it, None if it has not."""
        cached = self._events.get(event_id)
        if cached is None:
            return None
        exact, index = cached.standing, cached.index
        return index.standing if index and index.standing.now > exact.now else exact

    def reason(self, event_id: str) -> Reason:
        """Why waits have become longer of late, as far as this process knows."""
        cached, now = self._events.get(event_id), self._clock.now()
        return "" if cached is None or now is None else cached.slips.reason(now)

    def changed(self, event_id: str) -> int:
        """When the event was last seen paused or its rate changed, in ms: what was promised before it is void."""
        cached = self._events.get(event_id)
        return cached.slips.changed if cached else 0

    def somebody_waits(self, event_id: str) -> bool:
        """Whether there was a line a moment ago, as far as this process knows."""
        standing, now = self.standing(event_id), self._clock.now()
        if standing is None or now is None or self._line.is_away(event_id):
            return False
        return standing.waiting > 0 and 0 <= now - standing.now < _RECENT_MS

    def place(self, token: WaitingToken) -> tuple[int, Standing, int, bool] | None:
        """The approximate place of a person under a lease, or None if they need an exact poll.

        With it come the event's last standing, the time in ms, and whether the lease is in its second half.
        """
        event_id, ticket, lease = token.event_id, token.ticket, token.lease
        cached, now = self._events.get(event_id), self._clock.now()
        # A lease that is further ahead of now than clocks may differ is not valid.
        if cached is None or now is None or not lease - 1000 <= now < lease + self._lease_ms:
            return None
        self._refetch(event_id, cached, now)
        index = cached.index
        # Who joined after the index was published is somewhere behind its end: nobody knows where.
        if index is None or not index.tickets or ticket > index.tickets[-1]:
            return None
        standing, late = index.standing, now - lease > self._lease_ms / 2
        age = now - standing.now
        if self._line.is_away(event_id):
            return (interpolate(index, ticket), standing, now, late) if age <= OUTAGE_MS else None
        if age > FRESH_MS or standing.damaged:
            return None
        position = interpolate(index, ticket)
        return (position, standing, now, late) if position > cached.exact_zone else None

    def refresh(self, event_id: str) -> None:
        """Fetches the index again if it is time, as a poll does."""
        cached, now = self._events.get(event_id), self._clock.now()
        if cached is not None and now is not None:
            self._refetch(event_id, cached, now)

    def is_late(self, event_id: str) -> bool:
        """Whether the index places nobody at the moment, but will soon: the workers are a little behind."""
        cached, now = self._events.get(event_id), self._clock.now()
        if cached is None or cached.index is None or now is None:
            return False
        return FRESH_MS < now - cached.index.standing.now <= LATE_MS and not self._line.is_away(event_id)

    def last_known(self, event_id: str, ticket: int) -> int:
        """The place in a damaged line by the last index, 0 without one."""
        cached, now = self._events.get(event_id), self._clock.now()
        if cached is None or now is None:
            return 0
        self._refetch(event_id, cached, now)
        if cached.index is None or now - cached.index.standing.now > OUTAGE_MS:
            return 0
        return interpolate(cached.index, ticket)

    def index_age(self) -> float:
        """The age in seconds of the oldest index that is in use for people far back; 0 if there is none."""
        now = self._clock.now() or 0
        ages = [
            now - cached.index.standing.now
            for cached in self._events.values()
            # The age does not matter for a short line, or for one that nobody asks about.
            if cached.index and cached.standing.waiting > EXACT_ZONE and now - cached.fetched_at < FRESH_MS
        ]
        return max([0, *ages]) / 1000

    async def close(self) -> None:
        """Cancels the fetches in progress."""
        for fetch in self._fetches:
            fetch.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    def _refetch(self, event_id: str, cached: _Cached, now: int) -> None:
        # A short line needs its index only to bridge an outage; but it needs one.
        seldom = cached.index is not None and cached.standing.waiting <= EXACT_ZONE
        pause = _REFETCH_SMALL_MS if seldom else _REFETCH_MS
        if 0 <= now - cached.fetched_at < pause or self._line.is_away(event_id):
            return
        cached.fetched_at = now
        task = asyncio.create_task(self._fetch(event_id, cached))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, event_id: str, cached: _Cached) -> None:
        try:
            index = await self._line.index(event_id)
        except DaegiError:
            # The pulse notices the outage and logs it; the last index bridges it.
            return
        if index:
            standing = index.standing
            cached.index = index
            cached.slips.observe(standing)
            # The first places, or as many as could become ready within twice ready_ttl.
            cached.exact_zone = max(EXACT_ZONE, standing.tokens + standing.head_speed * 2 * self._ready_s)
