"""A worker killed in a job: another does the work, and it is as if it had been done once."""

import pytest

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from tests.support.processes import Worker
from tests.support.redis_version import script_in_force
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join, logged, redis_now, silence


async def in_hand(redis: Client) -> list[str]:
    """The jobs that a worker has begun, but for sweeps."""
    marks = [key.removeprefix("arq:in-progress:") async for key in redis.scan_iter("arq:in-progress:*")]
    return [job_id for job_id in marks if not job_id.startswith("sweep:")]


async def load(redis: Client, name: str) -> None:
    """Has Redis know a script already, so that a call of it is sent once."""
    await redis.script_load(script_in_force(name).source)


@pytest.mark.usefixtures("ingress")
async def test_its_job_is_given_to_another_and_done_as_if_once(
    server: RedisServer, redis: Client, line: Line, jobs: Jobs, event: str
) -> None:
    tickets = await join(line, event, 20, listed=False)
    await silence(redis, line, event, tickets[:10], HEARTBEAT_TTL + 1)

    async def expired() -> bool:
        return (await line.describe(event)).totals["expired"] == 10

    async with Relay(server.port) as relay:
        relay.trap = script_in_force("reap").sha.encode()
        await load(redis, "reap")
        with Worker(relay.url, jobs_redis_url=server.url, heartbeat_ttl=HEARTBEAT_TTL) as killed:
            await jobs.reap_expired({event: await redis_now(redis)})
            # Redis has done it, and the worker never learns of it.
            await eventually(expired)
            killed.kill()
    [job_id] = await in_hand(redis)
    mark = f"arq:in-progress:{job_id}"
    # Nobody waits for the mark of the dead to lapse here; what matters is that the job outlives it.
    assert await redis.pttl(f"arq:job:{job_id}") > await redis.pttl(mark)
    await redis.delete(mark)
    await redis.hdel(line.keys.event(event).state, "swept")

    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL):

        async def visited_again() -> bool:
            return await redis.hexists(line.keys.event(event).state, "swept") and not await in_hand(redis)

        await eventually(visited_again)
    assert (await line.describe(event)).totals["expired"] == 10
    assert await logged(redis, line, event) == tickets[10:]


async def test_what_it_was_to_do_is_asked_for_again_by_the_next_sweep(
    server: RedisServer, redis: Client, line: Line, event: str
) -> None:
    tickets = await join(line, event, 1200, user="somebody")
    keys = line.keys.event(event)
    await redis.delete(keys.queue, keys.heartbeat, keys.places)
    async with Relay(server.port) as relay:
        relay.trap = script_in_force("repair").sha.encode()
        await load(redis, "repair")
        with Worker(relay.url, jobs_redis_url=server.url, heartbeat_ttl=HEARTBEAT_TTL) as killed:

            async def half_done() -> bool:
                return 0 < await redis.zcard(keys.queue) < 1200

            await eventually(half_done)
            killed.kill()
    assert await in_hand(redis)
    # As above: a walk that is under way is left to who began it, for ten seconds.
    await redis.hdel(keys.state, "walking")

    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL):

        async def whole() -> bool:
            return await redis.hlen(keys.places) == 1200

        await eventually(whole)
    assert await in_line(redis, line, event) == tickets
    assert await redis.zcard(keys.heartbeat) == 1200
