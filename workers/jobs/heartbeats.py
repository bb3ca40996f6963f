"""refresh_heartbeats: writes the heartbeats of people who polled under a lease."""

from shared.jobs import Work
from shared.line.line import CHUNK
from workers.context import Tools, for_each, job


@job
async def refresh_heartbeats(tools: Tools, work: Work) -> None:
    """Refreshes the heartbeats of those who are still in line."""

    async def refresh(event_id: str) -> None:
        tickets = work.tickets[event_id]
        for start in range(0, len(tickets), CHUNK):
            await tools.line.refresh(event_id, tickets[start : start + CHUNK])

    await for_each(tools.line, work.tickets, refresh)
