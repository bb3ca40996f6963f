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
    """Makes a process open as many connections to Redis as it may: a relay then only holds answers to commands.

    Nothing but the process's connections to the Redis with the lines may go through the relay.
    """
    events = [f"opens-a-connection-{i}" for i in range(MAX_CONNECTIONS)]
    rounds = 0

    async def all_open() -> bool:
        # Joins that run at the same time need a connection each. How long a delay that takes depends on the machine.
        nonlocal rounds
        rounds += 1
        relay.delay = min(0.1 * rounds, 0.5)
        await asyncio.gather(*(join(http, event) for event in events))
        return relay.open >= MAX_CONNECTIONS

    async def all_through() -> bool:
        return [await redis.zcard(Keys(prefix).event(event).heartbeat) for event in events] == [rounds] * len(events)

    await eventually(all_open)
    relay.delay = 0
    # Round trip 2 of each join still runs after its answer, and its own reply may be delayed.
    await eventually(all_through)
    await asyncio.sleep(0.2)
