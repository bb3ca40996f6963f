"""Polls from memory: under a valid lease, anyone far back is placed by the published position index.

Nothing is remembered per waiter, so every process gives the same answer.
"""

import asyncio
from bisect import bisect_right
from dataclasses import dataclass

from api.serving.clock import RedisClock
from shared.errors import DaegiError
from shared.line.line import Line
from shared.line.replies import Index, Standing
from shared.settings import Settings
from shared.tokens.signer import WaitingToken

EXACT_ZONE = 1000
"""Places at the front that are always polled exactly."""

FRESH_MS = 3000
OUTAGE_MS = 60_000
"""Age up to which an index places people: while Redis answers, and while it is away."""

_REFETCH_MS, _REFETCH_SMALL_MS = 500, 20_000
_MAX_EVENTS = 10_000


@dataclass(slots=True)
class _Cached:
    """What this process knows of an event."""

    waiting: int
    index: Index | None = None
    exact_zone: float = 0.0
    fetched_at: int = 0
    """When the index was last asked for, in ms; if that is ahead, the clock has jumped back."""


def interpolate(index: Index, ticket: int) -> int:
    """The place of a ticket by the milestones around it: as of `computed_at` off by less than their distance.

    Before the first milestone it is the first one's place, behind the last one the place after it; 0 without any.
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
    """The indexes of the events polled here, fetched when asked for, at most twice a second an event."""

    def __init__(self, line: Line, clock: RedisClock, settings: Settings) -> None:
        self._line = line
        self._clock = clock
        self._lease_ms = int(settings.heartbeat_ttl * 1000 / 4)
        self._ready_s = settings.ready_ttl
        self._events: dict[str, _Cached] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    def observe(self, event_id: str, standing: Standing) -> None:
        """Takes note of how long the line is, from any exact answer."""
        cached = self._events.get(event_id)
        if cached is None:
            if len(self._events) >= _MAX_EVENTS:
                self._events.clear()
            self._events[event_id] = _Cached(standing.waiting)
        else:
            cached.waiting = standing.waiting

    def place(self, token: WaitingToken) -> tuple[int, Standing, int, bool] | None:
        """The approximate place of someone under a lease, or None if they have to be polled exactly.

        With how the event stood, the time in ms, and whether the lease is in its second half.
        """
        event_id, ticket, lease = token.event_id, token.ticket, token.lease
        cached, now = self._events.get(event_id), self._clock.now()
        # A lease ahead of now by more than clocks may differ is none.
        if cached is None or now is None or not lease - 1000 <= now < lease + self._lease_ms:
            return None
        self._refetch(event_id, cached, now)
        index = cached.index
        if index is None:
            return None
        standing, late = index.standing, now - lease > self._lease_ms / 2
        age = now - standing.now
        if self._line.is_away(event_id):
            return (interpolate(index, ticket), standing, now, late) if age <= OUTAGE_MS else None
        if age > FRESH_MS or standing.damaged or not index.tickets or ticket > index.tickets[-1]:
            return None
        position = interpolate(index, ticket)
        return (position, standing, now, late) if position > cached.exact_zone else None

    def last_known(self, event_id: str, ticket: int) -> int:
        """The place in a damaged line, as far as the last index tells, else 0."""
        cached, now = self._events.get(event_id), self._clock.now()
        if cached is None or now is None:
            return 0
        self._refetch(event_id, cached, now)
        if cached.index is None or now - cached.index.standing.now > OUTAGE_MS:
            return 0
        return interpolate(cached.index, ticket)

    def index_age(self) -> float:
        """The age in seconds of the oldest index that people far back are placed by now; 0 if there is none."""
        now = self._clock.now() or 0
        ages = [
            now - cached.index.standing.now
            for cached in self._events.values()
            # Of a short line, and of one that nobody asks about, an old one is as good.
            if cached.index and cached.waiting > EXACT_ZONE and now - cached.fetched_at < FRESH_MS
        ]
        return max([0, *ages]) / 1000

    async def close(self) -> None:
        """Ends what is being fetched."""
        for fetch in self._fetches:
            fetch.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    def _refetch(self, event_id: str, cached: _Cached, now: int) -> None:
        # A short line needs its index only to bridge an outage; but it needs one.
        seldom = cached.index is not None and cached.waiting <= EXACT_ZONE
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
            # The pulse notices that Redis is away and says so; the last index bridges it.
            return
        if index:
            standing = index.standing
            cached.index = index
            # The first places, or as many as could become ready within twice ready_ttl.
            cached.exact_zone = max(EXACT_ZONE, standing.tokens + standing.head_speed * 2 * self._ready_s)
