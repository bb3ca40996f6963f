"""How often a process fetches an event's position index: often enough, and not more often."""

import asyncio
from array import array
from typing import cast

import pytest

from api.serving.clock import RedisClock
from api.serving.position_cache import EXACT_ZONE, PositionCache
from shared.line.line import Line
from shared.line.replies import Index, Standing
from shared.settings import Settings
from tests.support.standings import MOVING

EVENT = "concert"
SHORT, LONG = 3, EXACT_ZONE + 1


class Indexes:
    """Stands in for a line that only publishes indexes."""

    def __init__(self) -> None:
        self.published: Index | None = None
        self.asked = 0

    def is_away(self, _: str) -> bool:
        return False

    async def index(self, _: str) -> Index | None:
        self.asked += 1
        return self.published


class Process:
    """One that people poll, on a clock that the test moves."""

    def __init__(self, now: int) -> None:
        self.waiting, self.indexes, self.clock = SHORT, Indexes(), _Still(now)
        settings = Settings.model_validate({})
        self.cache = PositionCache(cast("Line", self.indexes), cast("RedisClock", self.clock), settings)

    def standing(self) -> Standing:
        return MOVING._replace(now=self.clock.time, waiting=self.waiting)

    def publish(self) -> None:
        self.indexes.published = Index(self.standing(), (0.0, 0.0, 0.0), array("q", [1]), array("q", [1]))

    async def asks(self, *, after: int) -> bool:
        """Whether a poll at so many ms from now has the index fetched."""
        self.clock.time += after
        before = self.indexes.asked
        self.cache.observe(EVENT, self.standing())
        self.cache.last_known(EVENT, 1)
        # What it fetches it fetches beside the poll.
        await asyncio.sleep(0)
        return self.indexes.asked > before


class _Still:
    def __init__(self, now: int) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


@pytest.fixture
def process() -> Process:
    return Process(1_800_000_000_000)


async def test_the_index_of_an_event_that_has_none_yet_is_fetched_again_soon(process: Process) -> None:
    assert await process.asks(after=0)
    assert not await process.asks(after=499)
    assert await process.asks(after=1)
    process.publish()
    assert await process.asks(after=500)
    assert process.cache.last_known(EVENT, 1) == 1


async def test_the_index_of_a_short_line_is_fetched_rarely_and_of_a_long_one_twice_a_second(process: Process) -> None:
    process.publish()
    assert await process.asks(after=0)
    assert not await process.asks(after=19_999)
    assert await process.asks(after=1)
    assert not await process.asks(after=499)
    # It has become long meanwhile.
    process.waiting = LONG
    assert await process.asks(after=1)
    assert not await process.asks(after=499)
    assert await process.asks(after=1)


async def test_a_clock_that_jumps_back_delays_nothing(process: Process) -> None:
    process.publish()
    assert await process.asks(after=0)
    assert await process.asks(after=-1)
    assert not await process.asks(after=499)
