"""An api, its operator, and visitors whose browsers keep cookies."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from tests.support.processes import Api
from tests.support.settings import ADMIN_KEY

Declare = Callable[..., Awaitable[Any]]
NewVisitor = Callable[[], httpx.AsyncClient]

NAVIGATION = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="session")
def site_api(redis_server: RedisServer) -> Iterator[Api]:
    """One api for all that do not hurt it."""
    with Api(redis_server.url) as api:
        yield api


@pytest.fixture
async def declare(site_api: Api, redis: Redis, event: str) -> AsyncIterator[Declare]:
    """Has the operator declare the event, or change it."""
    async with httpx.AsyncClient(base_url=site_api.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as http:

        async def change(**settings: object) -> Any:
            answer = await http.put(f"/api/v1/admin/events/{event}", json=settings)
            assert answer.status_code == 200, answer.text
            return answer.json()

        yield change


@pytest.fixture
async def new_visitor(site_api: Api, redis: Redis) -> AsyncIterator[NewVisitor]:
    """Makes visitors, as far as headers and cookies go. They don't follow redirects by themselves."""
    async with AsyncExitStack() as stack:

        def make() -> httpx.AsyncClient:
            visitor = httpx.AsyncClient(base_url=site_api.url, headers=NAVIGATION)
            stack.push_async_callback(visitor.aclose)
            return visitor

        yield make
