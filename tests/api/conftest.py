"""A line on the server's own clock, beside an api that uses the same Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings


@pytest.fixture
async def live_line(redis_server: RedisServer, redis: Redis) -> AsyncIterator[Line]:
    """A line with the default settings on Redis's clock, as the processes have it."""
    settings = Settings.model_validate({"redis_url": redis_server.url})
    client = connect(settings, "daegi-tests")
    yield Line(client, settings)
    await client.aclose()
