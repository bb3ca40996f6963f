"""repair_index: writes back what is missing from an event's line, heartbeats and places, or a lost log."""

import structlog

from shared.jobs import Work
from shared.line.line import CHUNK, Line
from shared.line.replies import RelogCode
from workers.context import Tools, for_each, job

_log = structlog.get_logger(__name__)

_REBUILDS = 3
"""Attempts to write a lost log back; after that it is left to the next sweep."""


@job
async def repair_index(tools: Tools, work: Work) -> None:
    """Repairs the named tickets, and whole events whose counts differ."""

    async def repair(event_id: str) -> None:
        tickets = work.tickets.get(event_id, [])
        for start in range(0, len(tickets), CHUNK):
            repaired = await tools.line.repair(event_id, tickets=tickets[start : start + CHUNK])
            tools.metrics.repaired(repaired.written)
            await tools.line.note_activity([event_id], repaired.standing.now)
        if event_id in work.events:
            tools.metrics.repaired(await repair_event(tools.line, event_id))

    await for_each(tools.line, dict.fromkeys([*work.tickets, *work.events]), repair)


async def repair_event(line: Line, event_id: str) -> int:
    """Compares the counts, which is cheap, and walks the log only if they differ.

    Returns how many entries were missing.
    """
    found = await line.inspect(event_id)
    damaged, log_lost = found.standing.damaged, found.standing.log_lost
    if not (damaged or found.places_differ or found.heartbeats_missing):
        return 0
    # Every poll of a damaged line requests a repair, even while only an operator can help.
    if found.walked and not log_lost:
        return 0
    _log.warning(
        "a line needs repair",
        event_id=event_id,
        logged=found.logged,
        members=found.members,
        log_lost=log_lost,
        places_differ=found.places_differ,
        heartbeats_missing=found.heartbeats_missing,
    )
    written, after = 0, b"-"
    if found.logged:
        while after:
            piece = await line.repair(event_id, after=after, heartbeats=damaged or found.heartbeats_missing)
            written += piece.written
            after = piece.next_entry
    if log_lost:
        written += await _relog(line, event_id)
    now = await line.inspect(event_id)
    await line.note_activity([event_id], now.standing.now)
    _log.info("a line was repaired", event_id=event_id, written=written, damaged=now.standing.damaged)
    if now.standing.damaged and now.members > now.logged:
        _log.error(
            "members of a line have no log entry: nobody is let in until they leave or an operator has the log "
            "written anew (POST /api/v1/admin/events/{event_id}/relog)",
            event_id=event_id,
            logged=now.logged,
            members=now.members,
        )
    return written


async def _relog(line: Line, event_id: str) -> int:
    for _ in range(_REBUILDS):
        users = await line.known_users(event_id)
        entries = [(ticket, users.get(ticket, b"")) for ticket in await line.members(event_id)]
        code = await line.relog(event_id, entries[:CHUNK], begin=True)
        for start in range(CHUNK, len(entries), CHUNK):
            code = await line.relog(event_id, entries[start : start + CHUNK])
        if code == RelogCode.NOT_LOST:
            return 0
        if await line.relog(event_id, [], finish=True) == RelogCode.DONE:
            return len(entries)
    return 0
