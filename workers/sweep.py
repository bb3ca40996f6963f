"""sweep: asks for every job for every event, a piece of the list at a time. It makes up for whatever was lost."""

import os
import socket

from shared.errors import UnavailableError
from workers.context import Context, Tools

PER_SWEEP = 1000
"""Events that one sweep covers; with more the next one goes on from there."""

CHUNK = 250
"""Events in one job."""

_LEASE_SWEEPS = 6
"""How many sweeps a worker that died in one keeps the others waiting."""


async def sweep(ctx: Context) -> None:
    """One worker at a time; called by arq's cron every few seconds."""
    tools: Tools = ctx["tools"]
    try:
        await _sweep(tools)
    except UnavailableError:
        # Redis or the queue is away; the next tick tries again, and the gap starts grace.
        return


async def _sweep(tools: Tools) -> None:
    worker = f"{socket.gethostname()}-{os.getpid()}"
    start = await tools.line.begin_sweep(worker, _LEASE_SWEEPS * tools.settings.sweep_seconds * 1000)
    if start is None:
        return
    following = start
    try:
        events = await tools.line.events(start, PER_SWEEP)
        for first in range(0, len(events), CHUNK):
            chunk = dict(events[first : first + CHUNK])
            await tools.jobs.reap_expired(chunk)
            await tools.jobs.repair_index(list(chunk))
            await tools.jobs.compute_positions(list(chunk))
        following = start + PER_SWEEP if len(events) == PER_SWEEP else 0
    finally:
        # Also when the queue is away: nobody would sweep before the lease has lapsed.
        await tools.line.end_sweep(worker, following)
