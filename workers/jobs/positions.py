"""compute_positions: publishes the position index, from which polls far back are answered."""

import time

from shared.jobs import Work
from shared.line.line import INDEX_FRESH_MS
from workers.context import Tools, for_each, job

_MAX_REMEMBERED = 10_000


@job
async def compute_positions(tools: Tools, work: Work) -> None:
    """Publishes the index of each event whose index is not fresh."""
    published = tools.published
    if len(published) > _MAX_REMEMBERED:
        published.clear()

    async def publish(event_id: str) -> None:
        # Every ingress process requests every event it saw. Without this check, each request would cost Redis a call.
        now = time.monotonic()
        if now - published.get(event_id, 0.0) < INDEX_FRESH_MS / 1000:
            return
        # Set before it is done: jobs that arrive together visit the same events side by side.
        published[event_id] = now
        if not await tools.line.publish_index(event_id):
            published.pop(event_id, None)

    await for_each(tools.line, work.events, publish)
