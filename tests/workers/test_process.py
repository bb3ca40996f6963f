"""The worker as a process: what it says, how it is checked, how it stops."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from tests.support.paths import ROOT
from tests.support.processes import Worker
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, join


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs a Python module to its end."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=plain | settings, capture_output=True, text=True, timeout=60, check=False
    )


async def test_help_says_what_it_is_and_where_its_settings_come_from() -> None:
    said = await asyncio.to_thread(run, "workers", "--help")

    assert said.returncode == 0
    assert "usage: python -m workers" in said.stdout
    assert "DAEGI_JOBS_REDIS_URL" in said.stdout


async def test_wrong_settings_are_named_one_a_line_without_a_traceback() -> None:
    said = await asyncio.to_thread(
        run, "workers", DAEGI_HEARTBEAT_TTL="soon", DAEGI_MAX_BATCH="0", DAEGI_TOKEN_SECRETS='["a secret"]'
    )

    assert said.returncode == 2
    lines = said.stderr.splitlines()
    assert [text.partition(":")[0] for text in lines] == ["DAEGI_HEARTBEAT_TTL", "DAEGI_MAX_BATCH"]
    assert said.stdout == ""


async def test_arq_checks_a_worker_by_the_settings_class(server: RedisServer, redis: Client) -> None:
    def check() -> int:
        return run("arq", "workers.main.WorkerSettings", "--check", DAEGI_REDIS_URL=server.url).returncode

    assert await asyncio.to_thread(check) == 1
    with Worker(server.url) as worker:

        async def healthy() -> bool:
            return bool([key async for key in redis.scan_iter("arq:daegi:health*")])

        await eventually(healthy)
        assert await asyncio.to_thread(check) == 0
        assert await asyncio.to_thread(worker.stop) == 0
        assert await asyncio.to_thread(check) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAEGI_ADMIN_KEYS", '["hush-hush", ""]'),
        ("DAEGI_TOKEN_SECRETS", "hush-hush"),
        ("DAEGI_TOKEN_SECRETS", '{"hush-hush": 1}'),
        ("DAEGI_JOBS_REDIS_URL", "redis://:hush-hush/@localhost:6379"),
    ],
)
async def test_arq_shows_no_secret_of_a_wrong_setting(name: str, value: str) -> None:
    said = await asyncio.to_thread(run, "arq", "workers.main.WorkerSettings", "--check", **{name: value})

    assert said.returncode != 0
    assert name in said.stderr
    assert "hush" not in said.stdout + said.stderr


async def test_an_idle_worker_stops_at_once_and_in_good_order(server: RedisServer) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        with Worker(server.url) as worker:
            worker.process.send_signal(signum)
            assert await asyncio.to_thread(worker.process.wait, 10) == 0
            assert "the worker has stopped" in worker.log()
            assert "Traceback" not in worker.log()


async def test_a_worker_that_has_not_got_through_to_the_queue_yet_stops_in_good_order(server: RedisServer) -> None:
    async with Relay(server.port) as relay:
        relay.held = True
        with Worker(relay.url) as worker:

            async def asks() -> bool:
                return relay.connections > 0

            await eventually(asks)
            worker.process.terminate()
            await asyncio.sleep(0.2)
            relay.held = False

            assert await asyncio.to_thread(worker.process.wait, 15) == 0
            assert "Traceback" not in worker.log()


async def test_a_stop_lets_the_job_in_hand_finish_and_begins_no_other(
    server: RedisServer, redis: Client, line: Line, jobs: Jobs, event: str
) -> None:
    await join(line, event, listed=False)
    async with Relay(server.port) as relay:
        with Worker(relay.url, jobs_redis_url=server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
            await idle(redis, jobs)
            relay.held = True
            await in_hand(redis, jobs, [event])

            worker.process.terminate()
            await jobs.compute_positions(["another"])
            await asyncio.sleep(0.3)
            assert worker.process.poll() is None
            relay.held = False

            assert await asyncio.to_thread(worker.process.wait, 15) == 0
            assert "Traceback" not in worker.log()
    assert await redis.hexists(line.keys.event(event).state, "indexed")
    # The one that was begun is done with, the other is left to whoever works next.
    assert await redis.zcard("arq:daegi") - len(await sweeps(redis)) == 1
    assert not [key async for key in redis.scan_iter("arq:in-progress:*") if ":sweep:" not in key]


async def test_a_long_job_keeps_a_stop_waiting_for_seconds_only_and_is_done_by_the_next_worker(
    server: RedisServer, redis: Client, line: Line, jobs: Jobs
) -> None:
    events = [f"event-{number}" for number in range(100)]
    for event in events:
        await join(line, event, listed=False)
    async with Relay(server.port) as relay:
        with Worker(relay.url, jobs_redis_url=server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
            await idle(redis, jobs)
            # 100 events, four at once: 25 s.
            relay.delay = 0.5
            await in_hand(redis, jobs, events)

            worker.process.terminate()

            assert await asyncio.to_thread(worker.process.wait, 15) == 0
            assert "Traceback" not in worker.log()
    assert await line.index(events[-1]) is None
    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL):
        await eventually(lambda: line.index(events[-1]))


async def idle(redis: Client, jobs: Jobs) -> None:
    """A worker has connected everywhere and done what there was to do."""
    await jobs.compute_positions(["before"])

    async def all_done() -> bool:
        return await redis.zcard("arq:daegi") == len(await sweeps(redis))

    await eventually(all_done)


async def in_hand(redis: Client, jobs: Jobs, events: Sequence[str]) -> None:
    """A worker has begun a job over these events."""
    await jobs.compute_positions(events)

    async def begun() -> bool:
        return bool([key async for key in redis.scan_iter("arq:in-progress:*") if ":sweep:" not in key])

    await eventually(begun)


async def sweeps(redis: Client) -> list[str]:
    """The sweeps that are queued: the next one always is."""
    return [job_id for job_id in await redis.zrange("arq:daegi", 0, -1) if job_id.startswith("sweep:")]
