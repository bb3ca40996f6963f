"""sweep: requests every job for every event, a part of the list at a time. It makes up for lost requests."""

import os
import socket
from collections.abc import AsyncIterator

import structlog

from shared.errors import UnavailableError
from shared.line.line import Line
from workers.context import Context, Tools

_log = structlog.get_logger(__name__)

PER_SWEEP = 1000
"""Events that one sweep covers; the next one continues from there."""

CHUNK = 250
"""Events in one job."""

_LEASE_SWEEPS = 6
"""For how many sweeps the others wait for a worker that died in one."""


async def sweep(ctx: Context) -> None:
    """Sweeps unless another worker does. arq's cron calls it every few seconds."""
    tools: Tools = ctx["tools"]
    with tools.metrics.job(sweep.__name__) as outcome:
        try:
            outcome.append("done" if await _sweep(tools) else "left")
        except UnavailableError:
            # Redis or the queue is unavailable. The next tick tries again, and the gap starts grace.
            outcome.append("left")


async def _sweep(tools: Tools) -> bool:
    """False if another worker does it."""
    worker = f"{socket.gethostname()}-{os.getpid()}"
    after = await tools.line.begin_sweep(worker, _LEASE_SWEEPS * tools.settings.sweep_seconds * 1000)
    if after is None:
        return False
    following = after
    try:
        # Measured before this sweep adds to it.
        tools.metrics.queue(await tools.jobs.waiting())
        # Sorted by name: the order by activity changes all the time, so that some events would never get their turn.
        events = sorted([event async for event in _all_events(tools.line) if event[0] > after])[:PER_SWEEP]
        for first in range(0, len(events), CHUNK):
            chunk = dict(events[first : first + CHUNK])
            await tools.jobs.reap_expired(chunk)
            await tools.jobs.repair_index(list(chunk))
            await tools.jobs.compute_positions(list(chunk))
        following = events[-1][0] if len(events) == PER_SWEEP else ""
        await _measure_redis(tools)
    finally:
        # Even if the queue is unavailable: otherwise nobody could sweep until the lease has lapsed.
        await tools.line.end_sweep(worker, following)
    return True


async def _measure_redis(tools: Tools) -> None:
    try:
        tools.metrics.redis(await tools.line.servers())
    except Exception as error:  # noqa: BLE001 - such as a user without INFO: nothing depends on it
        _log.debug("redis did not say how busy it is", error=type(error).__name__)


async def _all_events(line: Line) -> AsyncIterator[tuple[str, int]]:
    # From the end: an event that becomes active meanwhile moves there, and is seen twice rather than never.
    end = await line.count_events()
    while end > 0:
        start = max(0, end - PER_SWEEP)
        for event in await line.events(start, end - start):
            yield event
        end = start
