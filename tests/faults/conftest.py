"""A Redis of each test's own, which it may hurt, and what the tests of faults see in it."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.support.calls import status
from tests.support.settings import SECRET
from tests.support.waiting import eventually

Client = Any
"""A plain client of Redis: redis-py types every answer as if it might not have to be awaited."""

KEYS = Keys()


@pytest.fixture
async def redis(own_server: RedisServer) -> AsyncIterator[Client]:
    """A plain client, for looking and for damage."""
    client = Redis.from_url(own_server.url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
def queue_server() -> Iterator[RedisServer]:
    """A Redis of its own for the job queue."""
    with RedisServer() as server:
        yield server


def ticket_of(token: str) -> int:
    """Whose token this is."""
    return Signer([SECRET]).verify_waiting(token).ticket


async def logged(redis: Client, event: str) -> list[int]:
    """Every ticket in the log."""
    entries = await redis.xrange(KEYS.event(event).stream)
    return [int(ms) * 1000 + int(rest) for ms, rest in (entry_id.split("-") for entry_id, _ in entries)]


async def members(redis: Client, event: str) -> list[int]:
    """Everybody who is in line, called or absent, by ticket."""
    keys = KEYS.event(event)
    return sorted(
        [int(one) for key in (keys.queue, keys.called, keys.absent) for one in await redis.zrange(key, 0, -1)]
    )


async def silence(redis: Client, event: str, tickets: Sequence[int], seconds: float) -> None:
    """Makes it so that these have not been heard for this long."""
    now, _ = await redis.time()
    scores = {str(ticket): round((now - seconds) * 1000) for ticket in tickets}
    assert await redis.zadd(KEYS.event(event).heartbeat, scores, xx=True, ch=True) == len(tickets)


async def swept(redis: Client, event: str, times: int = 1) -> None:
    """Waits until an event has been visited by so many more sweeps."""
    state = KEYS.event(event).state
    for _ in range(times):
        before = await redis.hget(state, "swept")

        async def later(before: str = before) -> bool:
            return await redis.hget(state, "swept") != before

        await eventually(later)


def zadd_of_heartbeats(event: str) -> bytes:
    """What only the second round trip of a join has in it."""
    key = KEYS.event(event).heartbeat
    return f"ZADD\r\n${len(key)}\r\n{key}\r\n".encode()


async def places(http: httpx.AsyncClient, tokens: Sequence[str]) -> list[int]:
    """Where these people stand."""
    return [(await status(http, token))["position"] for token in tokens]
