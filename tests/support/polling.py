"""A crowd in a line that does not move, and how its polls are answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from redis.asyncio import Redis

from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.support.calls import status
from tests.support.settings import SECRET
from tests.support.waiting import eventually


class Crowd:
    """Everybody's place in it is known."""

    def __init__(self, event: str, tickets: list[int]) -> None:
        self.event, self.tickets = event, tickets
        self._signer = Signer([SECRET])

    def token(self, place: int, lease: int | None = None) -> str:
        """The token of the person at this place, as of their join or with a lease (ms)."""
        return self._signer.waiting(self.event, self.tickets[place - 1], lease)

    def lease(self, token: str) -> int:
        """The lease in a token."""
        return self._signer.verify_waiting(token).lease


@asynccontextmanager
async def publishing(line: Line, event: str) -> AsyncIterator[None]:
    """Keeps an event's index fresh, as workers do."""

    async def publish() -> None:
        while True:
            await line.publish_index(event)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        # redis-py sends within wait_for, which in Python 3.11 sometimes loses a cancellation.
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=0.5)


async def from_memory(http: httpx.AsyncClient, token: str) -> Any:
    """A poll, repeated until this process has fetched the index and answers from it."""

    async def approximate() -> Any:
        stands = await status(http, token)
        return stands if stands["approximate"] else None

    return await eventually(approximate)


async def exactly(http: httpx.AsyncClient, token: str) -> Any:
    """A poll, repeated until it is no longer answered from memory."""

    async def exact() -> Any:
        stands = await status(http, token)
        return None if stands["approximate"] else stands

    return await eventually(exact)


async def now_ms(redis: Redis) -> int:
    """The server's time."""
    seconds, micros = await redis.time()
    return int(seconds * 1000 + micros // 1000)
