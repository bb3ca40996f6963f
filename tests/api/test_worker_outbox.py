"""Requests from an ingress to the workers: gathered for a second, one job of each kind for all events."""

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from tests.support.calls import running
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.waiting import eventually

# A database of its own for the queue: nobody works there, and no other api asks there.
QUEUE_DB = 1


async def jobs(redis_server: RedisServer) -> list[Any]:
    """Function and payload of every job that waits."""
    queue = Redis.from_url(redis_server.url.removesuffix("0") + str(QUEUE_DB))
    try:
        ids = await queue.zrange("arq:daegi", 0, -1)
        return [msgspec.msgpack.decode(await queue.get(b"arq:job:" + job_id)) for job_id in ids]
    finally:
        await queue.aclose()


@pytest.mark.usefixtures("redis")
async def test_200_joins_in_20_events_ask_for_a_job_or_two(redis_server: RedisServer, event: str) -> None:
    api = Api(redis_server.url, jobs_redis_url=redis_server.url.removesuffix("0") + str(QUEUE_DB))
    events = {f"{event}-{i}" for i in range(20)}
    async with running(api):
        requests = [post("/api/v1/queue/join", {"event_id": name}) for name in events] * 10
        assert {answer.status_code for answer in await crowd(api, requests)} == {202}

        async def asked_for() -> set[str]:
            named = [job["a"][0]["events"] for job in await jobs(redis_server) if job["f"] == "compute_positions"]
            return {name for some in named for name in some}

        async def all_asked_for() -> bool:
            return await asked_for() == events

        await eventually(all_asked_for)
        found = await jobs(redis_server)
    # The crowd may come in the middle of two or three seconds, hardly in that of more.
    assert len(found) <= 8
    assert {job["f"] for job in found} == {"compute_positions"}
