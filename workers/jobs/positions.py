"""compute_positions: publishes the position index that polls far back are answered from."""

import time

from shared.jobs import Work
from shared.line.line import INDEX_FRESH_MS
from workers.context import Tools, for_each, job

_MAX_REMEMBERED = 10_000


@job
async def compute_positions(tools: Tools, work: Work) -> None:
    """Publishes the index of each event unless it is fresh."""
    published = tools.published
    if len(published) > _MAX_REMEMBERED:
        published.clear()

    async def publish(event_id: str) -> None:
        # Every ingress process asks for every event it saw: without this Redis would be asked as often.
        now = time.monotonic()
        if now - published.get(event_id, 0.0) < INDEX_FRESH_MS / 1000:
            return
        # Before it is done: jobs that come together go through the same events side by side.
        published[event_id] = now
        if not await tools.line.publish_index(event_id):
            published.pop(event_id, None)

    await for_each(tools.line, work.events, publish)
