"""What happens to the api."""

import asyncio

from tests.chaos.stage import Stage
from tests.support.threads import in_thread


async def killed(stage: Stage) -> None:
    """SIGKILL in the middle of a burst; people retry at the other process, and find what they had."""
    redis = await stage.redis("everysec")
    apis = await stage.fleet(redis.url)
    async with stage.people([api.port for api in apis], redis.url) as crowd:
        async for number in stage.faults(0.5, 2):
            victim = apis[number % 2]
            crowd.burst(150)
            await asyncio.sleep(stage.random.uniform(0, 0.1))
            await in_thread(victim.kill)
            await asyncio.sleep(stage.random.uniform(0, 1))
            await in_thread(victim.start)
