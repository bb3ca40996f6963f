"""What clients send to a Redis."""

import asyncio
import time
from typing import Self

from redis.asyncio import Redis


class Monitor:
    """What clients send to a Redis while it watches: `async with Monitor(url) as monitor:`."""

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url, encoding="latin-1", decode_responses=True)
        self._seen: list[str] = []
        self._more = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._monitor = self._client.monitor()
        await self._monitor.__aenter__()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._monitor.__aexit__(None, None, None)
        await self._client.aclose()

    async def commands(self) -> list[str]:
        """All so far, without what scripts call."""
        mark = f"mark-{time.monotonic_ns()}"
        await self._client.echo(mark)
        while not any(mark in command for command in self._seen):
            self._more.clear()
            await self._more.wait()
        return [command for command in self._seen if "ECHO mark-" not in command]

    async def _watch(self) -> None:
        while True:
            found = await self._monitor.next_command()
            if found["client_type"] != "lua":
                self._seen.append(found["command"])
                self._more.set()
