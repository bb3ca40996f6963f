"""compute_positions: publishes the position index that polls far back are answered from."""

from shared.jobs import Work
from workers.context import Tools, for_each, job


@job
async def compute_positions(tools: Tools, work: Work) -> None:
    """Publishes the index of each event unless it is fresh."""

    async def publish(event_id: str) -> None:
        await tools.line.publish_index(event_id)

    await for_each(work.events, publish)
