"""Polls that an ingress answers from memory: never before one's turn, and off by less than milestones are apart."""

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import rule

from api.serving.position_cache import FRESH_MS, OUTAGE_MS, PositionCache
from shared.tokens.signer import WaitingToken
from tests.line.model.concurrency import Concurrency
from tests.line.model.event import LIFE
from tests.line.model.machine import EVENT
from tests.line.model.work import apart

LEASE = LIFE // 4


class Memory(Concurrency):
    """Steps of people, workers and operators, and polls under a lease."""

    cache: PositionCache | None = None

    @rule(
        pick=st.integers(0, 1000),
        age=st.sampled_from([-1001, -1000, 0, LEASE // 2, LEASE // 2 + 1000, LEASE - 1, LEASE]),
        away=st.booleans(),
        fresh=st.booleans(),
    )
    def somebody_polls_under_a_lease(self, pick: int, age: int, away: bool, fresh: bool) -> None:
        (ticket,) = self.pick([pick])
        if fresh:
            self.the_index_is_published()
        self.run(self._poll_under_a_lease(ticket, self.model.now - age, away=away))

    async def _poll_under_a_lease(self, ticket: int, lease: int, *, away: bool) -> None:
        client, line = self.clients[1], self.lines[1]
        # It is made on the loop.
        cache = self.cache = self.cache or PositionCache(line, self.redis_clock, self.settings)
        token = WaitingToken(EVENT, ticket, lease)
        cache.observe(EVENT, (await line.describe(EVENT)).standing)
        self.redis_clock.sync(self.model.now)
        if cache.place(token) is None and cache._fetches:
            await asyncio.wait(cache._fetches)
        self.redis_clock.sync(self.model.now)
        client.reachable = not away
        placed = cache.place(token)
        client.reachable = True
        if placed is None:
            return
        position, standing, now, late = placed
        assert lease - 1000 <= now < lease + LEASE
        assert late == (now - lease > LEASE / 2)
        assert now - standing.now <= (OUTAGE_MS if away else FRESH_MS)
        assert any(_is_near(position, ticket, places) for places in self.published[standing.now])


def _is_near(position: int, ticket: int, places: dict[int, int]) -> bool:
    """Who was not in line then has no place to be near to; 0 says that nobody was."""
    if ticket in places:
        return abs(position - places[ticket]) < apart(len(places))
    return min(places.values(), default=0) <= position <= max(places.values(), default=-1) + 1
