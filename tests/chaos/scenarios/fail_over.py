"""A scenario for tests/chaos, and for a short test: masters are killed, one after the other, while a crowd comes."""

import asyncio
import time

from redis.asyncio import RedisCluster

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.chaos.stage import Stage
from tests.support.cluster import Cluster, spread
from tests.support.threads import in_thread

LAG = 0.2
"""Seconds that the replica lags when its master is killed. On one machine it would hardly ever lag by itself."""


async def masters_killed(stage: Stage, *, acks: int) -> None:
    """SIGKILL of a master; its replica takes over, and the old master comes back empty, as a replica of the new one.

    With as many `acks` as there are replicas nothing is lost; without acks losses are counted, and forgiven.
    """
    cluster, queue = Cluster(), RedisServer()
    try:
        await asyncio.gather(in_thread(cluster.__enter__), in_thread(queue.start))
        events = list(spread(cluster, "chaos"))
        apis = await stage.fleet(cluster.url, jobs_redis_url=queue.url, min_replicas_ack=acks)
        client = RedisCluster(host=LOCALHOST, port=cluster.nodes[0].port, decode_responses=True)
        try:
            async with stage.people([api.port for api in apis], client, events=events) as crowd:
                async for _ in stage.faults(0.5, 2):
                    since = time.monotonic()
                    failing_over = in_thread(cluster.fail_over, stage.random.choice(cluster.masters), lag=LAG)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(failing_over)
                        await asyncio.sleep(stage.random.uniform(0, 1.5 * LAG))
                        crowd.burst(50)
                    if not acks:
                        stage.ledger.forgiven.append((since - LAG, since + 5 * LAG))
        finally:
            await client.aclose()
    finally:
        await asyncio.gather(in_thread(cluster.close), in_thread(queue.close))
