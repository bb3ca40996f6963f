"""What happens to Redis: it is killed, loses its power, hangs, is slow, or is full."""

import asyncio
import itertools
import time

from tests.chaos.stage import Stage, connected
from tests.support.disk import Disk
from tests.support.relay import Relay
from tests.support.threads import in_thread

SECOND = 1.0
"""Seconds of writes that a power cut loses, with appendfsync everysec."""


async def killed(stage: Stage) -> None:
    """SIGKILL, and a restart from an append-only file that was written at every change: nothing is lost."""
    redis = await stage.redis("always")
    apis = await stage.fleet(redis.url)
    async with stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(1.5, 4):
            crowd.burst(50)
            await asyncio.sleep(stage.random.uniform(0, 0.1))
            await in_thread(redis.kill)
            await asyncio.sleep(stage.random.uniform(0, 2))
            await in_thread(redis.restart)


async def power_cut(stage: Stage) -> None:
    """The end of the append-only file is lost, as in a power cut with everysec. A SIGKILL alone would not lose it,
    because the system has the data already. Only promises of that second are lost."""
    redis = await stage.redis("everysec")
    apis = await stage.fleet(redis.url)
    async with Disk(redis) as disk, stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(2, 5):
            crowd.burst(50)
            await asyncio.sleep(stage.random.uniform(0.1, 1))
            cut = time.monotonic()
            await in_thread(redis.kill)
            kept = disk.lose(cut - SECOND)
            # By then the answers in transit have been read.
            await asyncio.sleep(1)
            stage.ledger.forgiven.append((kept, time.monotonic()))
            await in_thread(redis.restart)


async def frozen(stage: Stage) -> None:
    """SIGSTOP for 10 s: connections stay open and nothing answers, then everything does."""
    redis = await stage.redis("always")
    apis = await stage.fleet(redis.url)
    async with stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(4, 6):
            crowd.burst(50)
            redis.pause()
            await asyncio.sleep(10)
            redis.resume()


async def slow(stage: Stage) -> None:
    """Late answers, answers that are too late, cut connections, and dead ones without notice."""
    redis = await stage.redis("everysec")
    relay = await stage.relay(redis)
    apis = await stage.fleet(relay.url, jobs_redis_url=redis.url)
    kinds = itertools.cycle((late, too_late, cut, dead, answers_lost))
    async with stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(1, 3):
            crowd.burst(30)
            await next(kinds)(relay)


async def late(relay: Relay) -> None:
    """By 0.4 s."""
    relay.delay = 0.2
    await asyncio.sleep(3)
    relay.delay = 0


async def too_late(relay: Relay) -> None:
    """Delays by 3 s, which is longer than the api waits."""
    relay.delay = 1.5
    await asyncio.sleep(4)
    relay.delay = 0


async def cut(relay: Relay) -> None:
    """Cuts every connection, five times."""
    for _ in range(5):
        relay.cut()
        await asyncio.sleep(0.2)


async def dead(relay: Relay) -> None:
    """Open connections go dead."""
    relay.forget()
    await asyncio.sleep(1)


async def answers_lost(relay: Relay) -> None:
    """Redis does what it is asked, and its answers are lost with the connections."""
    relay.held = True
    await asyncio.sleep(0.3)
    relay.cut()
    relay.held = False


async def full(stage: Stage) -> None:
    """maxmemory is reached, without eviction: joins are refused, all else goes on if Redis knows script flags."""
    redis = await stage.redis("everysec")
    apis = await stage.fleet(redis.url)
    async with connected(redis.url) as client, stage.people([api.port for api in apis], redis.url) as crowd:
        async for _ in stage.faults(2, 4):
            await client.config_set("maxmemory", "1")
            crowd.burst(50)
            await asyncio.sleep(4)
            await client.config_set("maxmemory", "0")
        version = (await client.info("server"))["redis_version"]
    refused = ", ".join(f"{kind} {count:,}" for kind, count in stage.gauge.refusals.items())
    stage.outcome.notes.append(f"on Redis {version} these were refused meanwhile: {refused}")
    if int(version.partition(".")[0]) >= 7:
        stage.expect(set(stage.gauge.refusals) <= {"join"}, "more than joins was refused")


async def jobs_away(stage: Stage) -> None:
    """The job queue's Redis is down, or hangs, for longer than two heartbeat TTLs, which are 10 s here."""
    life = stage.ledger.life = 10.0
    redis, queue = await stage.redis("everysec"), await stage.redis("everysec")
    apis = await stage.fleet(redis.url, jobs_redis_url=queue.url, heartbeat_ttl=life, pass_ttl=life)
    async with stage.people([api.port for api in apis], redis.url):
        async for number in stage.faults(3, 5):
            await in_thread(queue.kill) if number % 2 else queue.pause()
            await asyncio.sleep(2 * life + 2)
            await in_thread(queue.restart) if number % 2 else queue.resume()
    stage.expect(not stage.gauge.refused, "somebody was refused")
