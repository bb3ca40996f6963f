"""What a process knows of released passes."""

import pytest

from api.gate import passes as module
from api.gate.passes import Passes, Verdict
from api.serving.clock import RedisClock
from api.serving.load_shedding import PendingLimit
from api.serving.pulse import Pulse
from api.serving.sites import Room, Site
from shared.line.line import Line, Renewal
from shared.settings import Settings
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import PassToken

SITE = Site(Room(), 300_000, None, None, False)


async def passes_at(line: Line, event: str) -> Passes:
    """A process that has just started."""
    clock = RedisClock()
    clock.sync((await line.describe(event)).standing.now)
    return Passes(line, clock, Pulse(line, clock, Settings()), PendingLimit(100), Metrics())


async def renewed(line: Line, event: str) -> PassToken:
    """The pass of somebody who has just come in and is not due to renew it."""
    walked = await line.walk_in(event)
    assert walked is not None
    [until] = (await line.renew(event, [Renewal(walked.ticket, walked.until, walked.entered)])).ends
    return PassToken(event, walked.ticket, walked.entered, until)


@pytest.fixture
async def tokens(line: Line, event: str) -> list[PassToken]:
    """The passes of five visitors."""
    await line.configure(event, {"rate": "100", "burst": "100"})
    return [await renewed(line, event) for _ in range(5)]


async def test_a_pass_that_was_released_elsewhere_is_gone_for_a_process_that_never_saw_the_event(
    line: Line, event: str, tokens: list[PassToken]
) -> None:
    await line.release(event, [tokens[0].ticket])
    passes = await passes_at(line, event)
    assert (await passes.honour(tokens[0], SITE)).verdict is Verdict.GONE
    assert (await passes.honour(tokens[1], SITE)).verdict is Verdict.GOOD


async def test_a_released_pass_stays_gone_however_many_others_are_seen(
    line: Line, event: str, tokens: list[PassToken], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TICKETS", 2)
    first, second, *others = tokens
    passes = await passes_at(line, event)
    await line.release(event, [first.ticket])
    assert (await passes.honour(others[0], SITE)).verdict is Verdict.GOOD
    await line.release(event, [second.ticket])
    passes.forget(event, second.ticket)
    for other in others:
        due = PassToken(event, other.ticket, other.entered, other.until - 100_000)
        assert (await passes.honour(due, SITE)).verdict is Verdict.GOOD
    assert (await passes.honour(first, SITE)).verdict is Verdict.GONE
    assert (await passes.honour(second, SITE)).verdict is Verdict.GONE
