"""A Redis of each test's own, a line on its clock, and what the tests of the workers do to both."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Join, Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.support.settings import HEARTBEAT_TTL

Client = Any
"""A plain client of Redis: redis-py types every answer as if it might not have to be awaited."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """The test's own: a worker sweeps every event there is."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Client]:
    """A plain client, for looking and for damage."""
    client = Redis.from_url(server.url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    """As the workers of these tests have them, but for what a test changes."""
    return Settings.model_validate({"redis_url": server.url, "heartbeat_ttl": HEARTBEAT_TTL})


@pytest.fixture
async def line(settings: Settings) -> AsyncIterator[Line]:
    """A line on the server's own time, as the workers see it."""
    client = connect(settings, "daegi-tests")
    yield Line(client, settings)
    await client.aclose()


@pytest.fixture
async def jobs(settings: Settings) -> AsyncIterator[Jobs]:
    """Asks for jobs as an ingress does."""
    jobs = Jobs(settings)
    yield jobs
    await jobs.close()


@pytest.fixture
async def ingress(redis: Client, line: Line) -> None:
    """The pulse of a process that never misses a beat; without one nobody is ever expired."""
    now = await redis_now(redis)
    await redis.zadd(line.keys.pulse, {f"{now}-of-a-test": now + 3_600_000})


async def join(line: Line, event_id: str, count: int = 1, *, user: str = "", listed: bool = True) -> list[int]:
    """People join; the sweep sees the event only if it is listed. A verified user's name gets a number each."""
    joins = [Join(b"", f"v{user}{number}".encode() if user else b"") for number in range(count)]
    batch = await line.enqueue(event_id, joins, may_create=True)
    tickets = [joined.ticket for joined in batch.joined]
    await line.confirm(event_id, tickets, batch.standing.now, note_activity=listed)
    return tickets


async def silence(redis: Client, line: Line, event_id: str, tickets: Sequence[int], seconds: float) -> None:
    """Makes it so that these have not been heard for this long."""
    key = line.keys.event(event_id).heartbeat
    then = await redis_now(redis) - round(seconds * 1000)
    assert await redis.zadd(key, {str(ticket): then for ticket in tickets}, xx=True, ch=True) == len(tickets)


async def redis_now(redis: Client) -> int:
    """Redis's time in ms."""
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def in_line(redis: Client, line: Line, event_id: str) -> list[int]:
    """Those in line, from its head."""
    return [int(ticket) for ticket in await redis.zrange(line.keys.event(event_id).queue, 0, -1)]


async def logged(redis: Client, line: Line, event_id: str) -> list[int]:
    """Every ticket in the log."""
    entries = await redis.xrange(line.keys.event(event_id).stream)
    return [int(ms) * 1000 + int(rest) for ms, rest in (entry_id.split("-") for entry_id, _ in entries)]
