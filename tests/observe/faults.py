"""What is broken once all is known to be well, and the alerts that have to fire."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.observe.visitors import BIG, Visitors
from tests.support.browser import Client
from tests.support.processes import Api, Worker
from tests.support.settings import ADMIN_KEY
from tests.support.threads import in_thread

_FLOOD: Final = 1500


@dataclass(frozen=True)
class Stack:
    """What can be broken."""

    redis: RedisServer
    api: Api
    worker: Worker
    crowd: Visitors


@asynccontextmanager
async def overload(stack: Stack) -> AsyncIterator[None]:
    """More joins at once than may wait, while Redis is slow."""
    stack.redis.pause()
    try:
        joins = [asyncio.create_task(stack.crowd.join_once()) for _ in range(_FLOOD)]
        await asyncio.sleep(1)
    finally:
        stack.redis.resume()
    await asyncio.gather(*joins)
    yield


@asynccontextmanager
async def damaged_line(stack: Stack) -> AsyncIterator[None]:
    """The log entry of a person in line is lost, which repair leaves to an operator."""
    async with Redis.from_url(stack.redis.url) as redis:
        stream = Keys("").event(BIG).stream
        ((entry, _),) = await redis.xrevrange(stream, count=1)
        await redis.xdel(stream, entry)
    yield


@asynccontextmanager
async def new_log(stack: Stack) -> AsyncIterator[None]:
    """The operator has the log rebuilt, which repairs as many entries as there are people."""
    client = Client([stack.api.port])
    try:
        answer = await client.ask(
            "POST", f"/api/v1/admin/events/{BIG}/relog", headers={"Authorization": f"Bearer {ADMIN_KEY}"}
        )
        assert answer.status == 202, answer
    finally:
        client.close()
    yield


@asynccontextmanager
async def no_worker(stack: Stack) -> AsyncIterator[None]:
    """The only worker is killed."""
    stack.worker.kill()
    try:
        yield
    finally:
        await in_thread(stack.worker.start)


@asynccontextmanager
async def no_redis(stack: Stack) -> AsyncIterator[None]:
    """Redis hangs."""
    stack.redis.pause()
    try:
        yield
    finally:
        stack.redis.resume()


@asynccontextmanager
async def no_api(stack: Stack) -> AsyncIterator[None]:
    """The api is stopped."""
    await in_thread(stack.api.stop)
    yield


@dataclass(frozen=True)
class Fault:
    """A way of breaking something, the alerts that have to fire, and those that have to end."""

    text: str
    happens: Callable[[Stack], AbstractAsyncContextManager[None]]
    alerts: tuple[str, ...]
    ends: tuple[str, ...] = ()


FAULTS: Final = (
    Fault("a flood of joins", overload, ("DaegiSheds",)),
    Fault("a log entry is lost", damaged_line, ("DaegiLineDamaged",)),
    Fault("the log is written anew", new_log, ("DaegiRepairSurge",), ends=("DaegiLineDamaged",)),
    Fault("the worker is killed", no_worker, ("DaegiWorkersGone", "DaegiIndexStale")),
    Fault("Redis hangs", no_redis, ("DaegiRedisAway",)),
    Fault("the api is stopped", no_api, ("DaegiApiGone",)),
)
"""In the order in which they are played."""
