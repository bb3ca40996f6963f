"""Draining: readiness goes off first, everybody is served meanwhile, and nothing is left undone."""

import asyncio
import contextlib
import signal
from contextlib import AsyncExitStack

import httpx
import pytest
from redis.asyncio import Redis

from api.process import cancel
from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from tests.support.calls import client, configure, join, running, status, try_join, try_status
from tests.support.line_state import fill
from tests.support.polling import Crowd, from_memory, now_ms, publishing
from tests.support.ports import free_port
from tests.support.processes import Api, Worker
from tests.support.refusals import refused
from tests.support.waiting import eventually

# The pulses of the other tests' api are none of these.
PREFIX = "drain:"
PEOPLE = 1500


async def refuses_connections(api: Api) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOCALHOST, api.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.parametrize("server", ["granian", "uvicorn"])
async def test_readiness_goes_off_first_and_everybody_is_served_until_the_end(
    redis_server: RedisServer, redis: Redis, event: str, server: str
) -> None:
    api = Api(redis_server.url, server=server, drain_seconds=4, key_prefix=PREFIX)
    async with running(api) as http:
        token = (await join(http, event))["waiting_token"]
        api.process.send_signal(signal.SIGTERM)

        async def draining() -> httpx.Response | None:
            answer = await http.get("/readyz")
            return answer if answer.status_code == 503 else None

        answer = await eventually(draining)
        assert answer.json() == {"status": "draining", "redis": "up"}
        # Whoever keeps a connection is told to open another, which a balancer opens elsewhere.
        assert answer.headers["connection"] == "close"
        assert (await http.get("/healthz")).status_code == 200
        async with client(api.url) as newcomer:
            other = await join(newcomer, event)
            assert other["position_hint"] == 2
            assert (await status(newcomer, token))["position"] == 1
            refused(await try_status(newcomer, "nonsense"), 400, "INVALID_TOKEN")
        await eventually(lambda: refuses_connections(api))
        assert await asyncio.to_thread(api.process.wait, 20) == 0
        assert "Traceback" not in api.log()
    assert await redis.zrange(Keys(PREFIX).pulse, 0, -1) == []
    assert await redis.xlen(Keys(PREFIX).event(event).stream) == 2


async def test_connections_are_kept_until_then(redis_server: RedisServer, event: str) -> None:
    async with running(Api(redis_server.url, drain_seconds=4)) as http:
        answers = [await try_join(http, event), await http.get("/readyz")]
        assert not any("connection" in answer.headers for answer in answers)


@pytest.mark.parametrize("job_queue", ["there", "away"])
async def test_the_heartbeats_that_a_process_holds_are_handed_on_before_it_ends(
    redis_server: RedisServer, redis: Redis, live_line: Line, event: str, job_queue: str
) -> None:
    heartbeats = Keys().event(event).heartbeat
    jobs = redis_server.url if job_queue == "there" else f"redis://{LOCALHOST}:{free_port()}/0"
    api = Api(redis_server.url, jobs_redis_url=jobs)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(running(api))
        await configure(http, event, rate=0, burst=0)
        crowd = Crowd(event, await fill(live_line, event, PEOPLE))
        await stack.enter_async_context(publishing(live_line, event))
        await from_memory(http, crowd.token(PEOPLE))
        places = range(1101, 1201)

        async def polled_from_memory() -> int:
            """In the second half of their leases; once more if a stall made the index stale."""
            now = await now_ms(redis)
            await redis.zadd(heartbeats, {str(crowd.tickets[place - 1]): now - 200_000 for place in places})
            answers = await asyncio.gather(*(status(http, crowd.token(place, now - 50_000)) for place in places))
            return now if all(answer["approximate"] for answer in answers) else 0

        polled = await eventually(polled_from_memory)
        # It hands them on once a second: most likely these go right before its end.
        assert await asyncio.to_thread(api.stop) == 0
        if job_queue == "there":
            stack.enter_context(Worker(redis_server.url))

        async def all_heard() -> bool:
            heard = await redis.zmscore(heartbeats, [str(crowd.tickets[place - 1]) for place in places])
            return all(when > polled - 5_000 for when in heard)

        await eventually(all_heard)


async def test_a_task_ends_even_when_a_cancellation_is_lost_in_it() -> None:
    async def beat() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await cancel(task)
    assert task.cancelled()
