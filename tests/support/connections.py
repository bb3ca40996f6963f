"""The connections that a process has to Redis."""

import asyncio

import httpx
from redis.asyncio import Redis

from shared.line.keys import Keys
from shared.redis.node import MAX_CONNECTIONS
from tests.support.calls import join
from tests.support.relay import Relay
from tests.support.waiting import eventually


async def open_all_connections(relay: Relay, redis: Redis, http: httpx.AsyncClient, prefix: str = "") -> None:
    """Has a process open every connection to Redis that it may: what is held later is then an answer to a command."""
    events = [f"opens-a-connection-{i}" for i in range(MAX_CONNECTIONS)]
    relay.delay = 0.1
    await asyncio.gather(*(join(http, event) for event in events))
    relay.delay = 0

    async def all_through() -> bool:
        return [await redis.zcard(Keys(prefix).event(event).heartbeat) for event in events] == [1] * len(events)

    # Round trip 2 of each goes on after its answer, and its own answer may still be delayed.
    await eventually(all_through)
    await asyncio.sleep(0.2)
