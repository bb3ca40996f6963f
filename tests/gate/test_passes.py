"""What one process knows of passes: learned, remembered, and what of it may be forgotten."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.gate import passes as module
from api.gate.passes import Passes, Verdict
from api.serving.clock import RedisClock
from api.serving.load_shedding import PendingLimit
from api.serving.pulse import Pulse
from api.serving.sites import Room, Site
from shared.line.line import Line
from shared.settings import Settings
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import PassToken
from tests.conftest import Clock
from tests.support.waiting import eventually

TTL = 300_000
SITE = Site(Room(), session_ttl=TTL, session_limit=None, max_active=None, paused=False)


@pytest.fixture
def redis_clock(clock: Clock) -> RedisClock:
    """Redis's time as the process estimates it."""
    estimate = RedisClock()
    estimate.sync(clock.now // 1000)
    return estimate


@pytest.fixture
async def passes(line: Line, redis_clock: RedisClock) -> AsyncIterator[Passes]:
    """One process's, watching for releases."""
    known = Passes(line, redis_clock, Pulse(line, redis_clock, Settings()), PendingLimit(1000), Metrics())
    watching = asyncio.create_task(known.run())
    yield known
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await known.drain()


@pytest.fixture
def fresh(clock: Clock, event: str) -> PassToken:
    """A pass that is good by its own word, and not due for a renewal."""
    now = clock.now // 1000
    return PassToken(event, 1, now, now + TTL - 1000)


async def test_what_was_released_is_not_forgotten_however_many_others_come(
    passes: Passes, line: Line, fresh: PassToken, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TICKETS", 10)
    assert (await passes.honour(fresh, SITE)).verdict is Verdict.GOOD
    await line.release(event, [fresh.ticket])

    async def is_gone() -> bool:
        return (await passes.honour(fresh, SITE)).verdict is Verdict.GONE

    await eventually(is_gone)
    for ticket in range(2, 30):
        due = PassToken(event, ticket, fresh.entered, fresh.entered + 10_000)
        assert (await passes.honour(due, SITE)).verdict is Verdict.GOOD
    assert await is_gone()
