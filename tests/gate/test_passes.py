"""What one process knows of passes: learned, remembered, and what of it may be forgotten."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import msgspec
import pytest
from redis.asyncio import Redis

from api.gate import passes as module
from api.gate.passes import Passes, Verdict
from api.process import cancel
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

MakePasses = Callable[..., Passes]

TTL = 300_000
SITE = Site(Room(), session_ttl=TTL, session_limit=None, max_active=None)


@pytest.fixture
def redis_clock(clock: Clock) -> RedisClock:
    """Redis's time as the process estimates it."""
    estimate = RedisClock()
    estimate.sync(clock.now // 1000)
    return estimate


@pytest.fixture
async def make_passes(line: Line) -> AsyncIterator[MakePasses]:
    """Makes what processes with these clocks have, each watching for releases."""
    async with AsyncExitStack() as stack:

        def make(clock: RedisClock, pending: PendingLimit | None = None) -> Passes:
            pulse = Pulse(line, clock, Settings())
            made = Passes(line, clock, pulse, pending or PendingLimit(1000), Metrics())
            watching = asyncio.create_task(made.run())
            stack.push_async_callback(made.drain)
            stack.push_async_callback(cancel, watching)
            return made

        yield make


@pytest.fixture
async def passes(make_passes: MakePasses, redis_clock: RedisClock) -> Passes:
    """One process's."""
    return make_passes(redis_clock)


@pytest.fixture
def fresh(clock: Clock, event: str) -> PassToken:
    """A pass that is good by its own word, and not due for a renewal."""
    now = clock.now // 1000
    return PassToken(event, 1, now, now + TTL - 1000)


async def verdict(passes: Passes, token: PassToken) -> Verdict:
    return (await passes.honour(token, SITE)).verdict


async def test_a_release_is_noticed_though_as_many_are_out_as_before(
    passes: Passes, line: Line, redis: Redis, fresh: PassToken, event: str
) -> None:
    other = msgspec.structs.replace(fresh, ticket=2)
    ended = line.keys.event(event).ended
    for token in (fresh, other):
        assert await verdict(passes, token) is Verdict.GOOD
    await line.release(event, [fresh.ticket])

    async def only_out(gone: PassToken, good: PassToken) -> bool:
        return (await verdict(passes, gone), await verdict(passes, good)) == (Verdict.GONE, Verdict.GOOD)

    await eventually(lambda: only_out(fresh, other))
    # One may be forgotten, another is released: a count is no signal.
    await redis.zrem(ended, fresh.ticket)
    await line.release(event, [other.ticket])
    assert await redis.zcard(ended) == 1
    await eventually(lambda: only_out(other, fresh))


async def test_a_clock_that_jumps_back_revives_no_pass_in_any_process(
    passes: Passes,
    make_passes: MakePasses,
    redis_clock: RedisClock,
    clock: Clock,
    event: str,
) -> None:
    now = clock.now // 1000
    old = PassToken(event, 1, now - TTL, now - 10_000)
    # Somebody's renewal: Redis and this process have seen the time.
    assert await verdict(passes, PassToken(event, 2, now, now + 1000)) is Verdict.GOOD
    assert await verdict(passes, old) is Verdict.GONE
    clock.advance(-(TTL - 15_000) / 1000)
    redis_clock.sync(clock.now // 1000)
    another = PassToken(event, 3, now - TTL, now - 10_000)
    assert await verdict(passes, another) is Verdict.GONE
    began_later = RedisClock()
    began_later.sync(clock.now // 1000)
    assert await verdict(make_passes(began_later), another) is Verdict.GONE


async def test_under_overload_whoever_is_inside_is_not_held_back_for_a_renewal(
    make_passes: MakePasses, redis_clock: RedisClock, clock: Clock, event: str
) -> None:
    full = PendingLimit(0)
    now = clock.now // 1000
    passes = make_passes(redis_clock, full)
    for ticket in range(1, 4):
        assert await verdict(passes, PassToken(event, ticket, now, now + 10_000)) is Verdict.GOOD
    assert full.refused == 0
    # What has run out cannot be told without Redis.
    assert await verdict(passes, PassToken(event, 4, now - TTL, now - 1)) is Verdict.UNKNOWN


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
