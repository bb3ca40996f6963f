"""What one ingress process holds in memory when very many people poll it under late leases."""

import asyncio
import dataclasses
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psutil

from api.serving.clock import RedisClock
from api.serving.worker_outbox import MAX_HEARTBEATS, WorkerOutbox
from shared.jobs import Jobs
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.load.rig import redis_on_load_core

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Held:
    """The heartbeats of different people that one process was asked to hold within a second."""

    asked: int
    held: int
    bytes_held: int
    job_bytes: int
    peak_bytes: int  # beyond what the process had before, including the sending of the job
    hear_us: float


def heartbeats_held(waiters: int, say: Say) -> Held:
    """Measures in a process of its own, so that nothing else is in its memory."""
    say(f"{waiters:,} waiters poll one process under late leases")
    with (
        redis_on_load_core() as (url, redis),
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        held, resident, peak, hear_us = pool.submit(_hear, url, waiters).result(timeout=120)
        keys: Any = redis.keys("arq:job:*")
        jobs: Any = redis.mget(keys)
    return Held(waiters, held, resident, sum(map(len, jobs)), peak, hear_us)


def _hear(url: str, waiters: int) -> tuple[int, int, int, float]:
    return asyncio.run(_hear_and_send(url, waiters))


async def _hear_and_send(url: str, waiters: int) -> tuple[int, int, int, float]:
    settings = Settings.model_validate({"redis_url": url})
    redis, jobs = connect(settings, "daegi-scale"), Jobs(settings)
    outbox = WorkerOutbox(Line(redis, settings), jobs, RedisClock())
    await outbox.send()  # so that one-time imports and allocations are done
    process = psutil.Process()
    before, first = process.memory_info().rss, time.time_ns() // 1000
    began = time.process_time()
    held = sum(outbox.record_heartbeat("crowd", first + number * 70) for number in range(waiters))
    hear_us = (time.process_time() - began) / waiters * 1e6
    resident, peak = process.memory_info().rss - before, 0
    sending = asyncio.create_task(outbox.send())
    while not sending.done():
        peak = max(peak, process.memory_info().rss - before)
        await asyncio.sleep(0)
    peak = max(peak, process.memory_info().rss - before)
    await jobs.close()
    await redis.aclose()
    assert held <= MAX_HEARTBEATS
    return held, resident, peak, hear_us
