"""Most people listen for their place instead of polling, while api processes, a worker and Redis are killed."""

import asyncio
from typing import Final

from tests.chaos.stage import Stage
from tests.support.processes import Process
from tests.support.threads import in_thread

SHARE: Final = 0.8
"""Of the people, who listen."""


async def listen(stage: Stage) -> None:
    """SIGKILL and SIGTERM of an api process, SIGKILL of the worker and of Redis, in turn; each comes back."""
    redis = await stage.redis("always")
    apis = await stage.fleet(redis.url, workers=0)
    worker = await stage.worker(redis.url)
    async with stage.people([api.port for api in apis], redis.url, listening=SHARE) as crowd:
        async for number in stage.faults(2, 5):
            crowd.burst(100)
            victim: Process = worker if number % 4 == 2 else apis[number // 4 % 2]
            if number % 4 == 0:
                stage.expect(await in_thread(victim.stop) == 0, "an api process did not end in good order")
            elif number % 4 == 3:
                await in_thread(redis.kill)
                await asyncio.sleep(stage.random.uniform(0, 2))
                await in_thread(redis.restart)
                continue
            else:
                await in_thread(victim.kill)
            await asyncio.sleep(stage.random.uniform(0, 2))
            await in_thread(victim.start)
    stage.outcome.notes.append(f"{stage.gauge.events:,} events told {crowd.people:,} people where they stand")
    stage.expect(stage.gauge.events > crowd.people, "hardly anybody was told anything on a stream")
