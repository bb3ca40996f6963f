"""What happens to Redis."""

import asyncio

from tests.chaos.stage import Stage, in_thread


async def killed(stage: Stage) -> None:
    """SIGKILL, and a restart from an append-only file that was written at every change: nothing is lost."""
    redis = await stage.redis("always")
    apis = await stage.fleet(redis.url)
    async with stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(1.5, 4):
            crowd.burst(50)
            await asyncio.sleep(stage.random.uniform(0, 0.1))
            await in_thread(redis.kill)
            await asyncio.sleep(stage.random.uniform(0, 2))
            await in_thread(redis.restart)


async def frozen(stage: Stage) -> None:
    """SIGSTOP for 10 s: connections stay open and nothing answers, then everything does."""
    redis = await stage.redis("always")
    apis = await stage.fleet(redis.url)
    async with stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(4, 6):
            crowd.burst(50)
            redis.pause()
            await asyncio.sleep(10)
            redis.resume()
