"""Polls from memory: under a valid lease, anyone far back is placed by the published position index.

Nothing is remembered per waiter, so every process gives the same answer.
"""

import asyncio
from bisect import bisect_right
from dataclasses import dataclass

from api.clock import RedisClock
from shared.errors import DaegiError
from shared.line import Line
from shared.replies import Index, Standing
from shared.settings import Settings
from shared.tickets import WaitingToken

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
    asked: int = 0


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
    share = (ticket - tickets[i]) / (tickets[i + 1] - tickets[i])
    return positions[i] + round(share * (positions[i + 1] - positions[i]))


class PositionCache:
    """The indexes of the events polled here, fetched when asked for, at most twice a second an event."""

    def __init__(self, line: Line, clock: RedisClock, settings: Settings) -> None:
        self._line = line
        self._clock = clock
        self._lease_ms = int(settings.heartbeat_ttl * 1000 / 4)
        self._ready_s = settings.ready_ttl
        self._events: dict[str, _Cached] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    def lease_left(self, token: WaitingToken) -> float:
        """The share of its life that a token's lease has left; 0 if it has none."""
        now = self._clock.now()
        if now is None or token.lease > now + 1000:
            return 0.0
        return max(0.0, 1 - max(0, now - token.lease) / self._lease_ms)

    def observe(self, event_id: str, standing: Standing) -> None:
        """Takes note of how long the line is, from any exact answer."""
        cached = self._events.get(event_id)
        if cached is None:
            if len(self._events) >= _MAX_EVENTS:
                self._events.clear()
            self._events[event_id] = _Cached(standing.waiting)
        else:
            cached.waiting = standing.waiting

    def place(self, token: WaitingToken) -> tuple[int, Standing] | None:
        """The approximate place of someone under a lease, or None if they have to be polled exactly."""
        cached, now = self._events.get(token.event_id), self._clock.now()
        if cached is None or now is None:
            return None
        self._refetch(token.event_id, cached, now)
        index = cached.index
        if index is None:
            return None
        age = now - index.standing.now
        if self._line.reachable is False:
            return (interpolate(index, token.ticket), index.standing) if age <= OUTAGE_MS else None
        if age > FRESH_MS or index.standing.damaged or not index.tickets or token.ticket > index.tickets[-1]:
            return None
        position = interpolate(index, token.ticket)
        return (position, index.standing) if position > self._exact_zone(index.standing) else None

    def last_known(self, event_id: str, ticket: int) -> int:
        """The place in a damaged line, as far as the last index tells, else 0."""
        cached, now = self._events.get(event_id), self._clock.now()
        if cached is None or now is None:
            return 0
        self._refetch(event_id, cached, now)
        if cached.index is None or now - cached.index.standing.now > OUTAGE_MS:
            return 0
        return interpolate(cached.index, ticket)

    async def close(self) -> None:
        """Ends what is being fetched."""
        for fetch in self._fetches:
            fetch.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    def _exact_zone(self, standing: Standing) -> float:
        """The first places, or as many as could become ready within twice ready_ttl."""
        return max(EXACT_ZONE, standing.tokens + standing.head_speed * 2 * self._ready_s)

    def _refetch(self, event_id: str, cached: _Cached, now: int) -> None:
        # A short line needs its index only to bridge an outage.
        every = _REFETCH_MS if cached.waiting > EXACT_ZONE else _REFETCH_SMALL_MS
        fresh = cached.index is not None and 0 <= now - cached.index.standing.now < every
        if fresh or 0 <= now - cached.asked < every or self._line.reachable is False:
            return
        cached.asked = now
        task = asyncio.create_task(self._fetch(event_id, cached))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, event_id: str, cached: _Cached) -> None:
        try:
            cached.index = await self._line.index(event_id) or cached.index
        except DaegiError:
            # The pulse notices that Redis is away and says so; the last index bridges it.
            return
