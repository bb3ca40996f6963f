"""One master and its replica under sentinels: redis+sentinel:// follows the master."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.dev.redis_server import LOCALHOST, RedisServer, find_redis_server
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.waiting import eventually

CONFIG = """
bind {host}
port {port}
dir {directory}
sentinel monitor lines {host} {master} 1
sentinel down-after-milliseconds lines 500
sentinel failover-timeout lines 3000
"""


@pytest.fixture
def master() -> Iterator[RedisServer]:
    # Redis 7 would wait 5 s for more replicas before it sends anything to the first.
    with RedisServer().start(None, None, "--repl-diskless-sync-delay", "0") as server:
        yield server


@pytest.fixture
def replica(master: RedisServer) -> Iterator[RedisServer]:
    with RedisServer().start(None, None, "--replicaof", LOCALHOST, str(master.port)) as server:
        yield server


@pytest.fixture
async def sentinel(master: RedisServer, replica: RedisServer, tmp_path: Path) -> AsyncIterator[int]:
    """The port of a sentinel that knows both."""
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(CONFIG.format(host=LOCALHOST, port=port, directory=tmp_path, master=master.port))
    path = find_redis_server().path
    process = await asyncio.create_subprocess_exec(path, config, "--sentinel", stdout=subprocess.DEVNULL)
    client = Redis(host=LOCALHOST, port=port, decode_responses=True)
    try:

        async def knows_the_replica() -> bool:
            try:
                return "'slaves': 1" in str(await client.execute_command("INFO", "sentinel"))
            except RedisConnectionError:
                return False

        await eventually(knows_the_replica, 30)
        yield port
    finally:
        await client.aclose()
        process.kill()
        await process.wait()


async def test_places_outlive_a_master_that_sentinels_replace(
    master: RedisServer, replica: RedisServer, sentinel: int, event: str
) -> None:
    jobs = f"redis://{LOCALHOST}:1/0"
    url = f"redis+sentinel://{LOCALHOST}:1,{LOCALHOST}:{sentinel}/lines"
    with Api(url, jobs_redis_url=jobs, min_replicas_ack=1) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=10, trust_env=False) as http:

            async def joined() -> httpx.Response | None:
                answer = await http.post(
                    "/api/v1/queue/join", json={"event_id": event}, headers={"Idempotency-Key": "the key of somebody"}
                )
                return answer if answer.status_code == 202 else None

            # The replica may not be in sync yet.
            token = (await eventually(joined)).json()["waiting_token"]
            master.kill()

            async def asked() -> httpx.Response | None:
                answer = await http.get("/api/v1/queue/status", params={"token": token})
                assert answer.status_code in {200, 503}
                return answer if answer.status_code == 200 else None

            answer = await eventually(asked, 60)
            assert answer.json()["position"] == 1
            client = Redis.from_url(replica.url)
            assert "master" in str(await client.execute_command("ROLE"))
            await client.aclose()
