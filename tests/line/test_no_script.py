"""A Redis that never knows our scripts is an error, and no endless loop."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from shared.line.line import Line


async def test_scripts_that_are_always_lost_again_are_given_up(line: Line, redis: Redis, event: str) -> None:
    lost = asyncio.Event()

    async def lose() -> None:
        # A second client flushes as fast as Redis lets it.
        while not lost.is_set():
            await redis.script_flush()

    async def poll() -> None:
        while True:
            await line.poll(event, [1])

    losing = [asyncio.create_task(lose()) for _ in range(4)]
    try:
        with pytest.raises(NoScriptError):
            await asyncio.wait_for(poll(), 10)
    finally:
        lost.set()
        await asyncio.gather(*losing)
