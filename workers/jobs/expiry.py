"""reap_expired: visits events, expires silent people, and removes events that are no longer needed."""

import math

import structlog

from shared.jobs import Work
from shared.line.replies import Reaped
from shared.settings import Settings
from workers.context import Tools, for_each, job
from workers.jobs.sweep import PER_SWEEP

_log = structlog.get_logger(__name__)

_CALLS = 64
"""The most script calls for an event in one visit, so that no event starves the others."""


def longest_gap(settings: Settings, events: int) -> int:
    """The longest gap (ms) in sweeps or pulses that is not an interruption, with this many events
    (shared/line/DESIGN.md, "Grace").

    The time of a full cycle is computed, not measured: in a measurement, an outage would look normal.
    """
    ttl = settings.heartbeat_ttl * 1000
    cycle = math.ceil(max(events, 1) / PER_SWEEP) * settings.sweep_seconds * 1000
    return round(min(ttl / 3, max(ttl / 10, 3 * cycle)))


@job
async def reap_expired(tools: Tools, work: Work) -> None:
    """Visits each event; one that has long been empty is removed, unless somebody has been active in it meanwhile."""
    line = tools.line
    gap = longest_gap(tools.settings, await line.count_events())
    fleet = await line.fleet(gap)

    async def visit(event_id: str) -> Reaped:
        return await line.reap(event_id, interrupted=fleet.interrupted, longest_gap=gap)

    async def reap(event_id: str) -> None:
        reaped = await visit(event_id)
        expired = reaped.expired
        for _ in range(_CALLS - 1):
            if not reaped.more:
                break
            reaped = await visit(event_id)
            expired += reaped.expired
        if expired:
            _log.info("people were expired", event_id=event_id, expired=expired)
        if reaped.unlinked:
            # The activity is from before the visit: a join since then has changed it, and the event stays listed.
            await line.forget(event_id, work.activity[event_id])
            tools.metrics.forget(event_id)
        elif tools.metrics.exports(event_id, reaped.standing.waiting):
            tools.metrics.event(event_id, await line.describe(event_id), grace=reaped.grace)

    await for_each(line, work.activity, reap)
