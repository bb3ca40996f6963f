"""The worker process: arq with our jobs. It survives any outage of either Redis."""

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import structlog
from arq import Worker, cron, func
from arq.connections import RedisSettings

from shared.jobs import QUEUE_ERRORS, Jobs, deserialize, open_queue, queue_name, serialize
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings, load_settings
from shared.telemetry.redis_metrics import measure_redis
from workers.context import Context, Tools
from workers.jobs.expiry import reap_expired
from workers.jobs.heartbeats import refresh_heartbeats
from workers.jobs.positions import compute_positions
from workers.jobs.repair import repair_index
from workers.jobs.sweep import sweep
from workers.metrics import WorkerMetrics

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

_log = structlog.get_logger(__name__)

JOB_SECONDS = 60
"""A job that takes longer (s) is cancelled; after a crash another worker gets it 10 s later than this."""

STOP_SECONDS = 5
"""Seconds for which a clean stop waits for running jobs."""

_MAX_BACKOFF = 5.0
_QUEUE_TIMEOUT = 5.0


_JOBS = (compute_positions, refresh_heartbeats, repair_index, reap_expired)


def worker_settings(settings: Settings, tools: Tools | None = None) -> dict[str, Any]:
    """The arguments of arq's Worker. Without tools the worker makes its own. Results are not kept: they have no use."""
    every = range(0, 60, settings.sweep_seconds)

    async def startup(ctx: Context) -> None:
        ctx["open"] = stack = AsyncExitStack()
        ctx["tools"] = tools or await stack.enter_async_context(_tools(settings))
        for warning in await ctx["tools"].line.warnings():
            _log.warning(warning)

    async def shutdown(ctx: Context) -> None:
        # A worker that is stopped before it has started has nothing to close.
        if "open" in ctx:
            await ctx["open"].aclose()

    return {
        "functions": [func(cast("WorkerCoroutine", job), name=job.__name__) for job in _JOBS],
        # The prefix is part of the job's id: tenants on one Redis must not take each other's ticks.
        "cron_jobs": [cron(sweep, name=f"{settings.key_prefix}sweep", second=set(every), unique=True)],
        "redis_settings": RedisSettings.from_dsn(settings.jobs_url),
        "queue_name": queue_name(settings),
        "on_startup": startup,
        "on_shutdown": shutdown,
        "max_jobs": 16,
        "max_tries": 3,
        "job_timeout": JOB_SECONDS,
        "job_completion_wait": STOP_SECONDS,
        "keep_result": 0,
        "poll_delay": 0.1,
        "health_check_interval": 15,
        "health_check_key": f"{queue_name(settings)}:health:{socket.gethostname()}",
        "job_serializer": serialize,
        "job_deserializer": deserialize,
        "log_results": False,
    }


@asynccontextmanager
async def _tools(settings: Settings) -> AsyncIterator[Tools]:
    async with AsyncExitStack() as stack:
        redis, jobs = connect(settings, "daegi-worker"), Jobs(settings)
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(jobs.close)
        metrics = WorkerMetrics(settings, [job.__name__ for job in (*_JOBS, sweep)])
        measure_redis(metrics.registry, redis)
        await stack.enter_async_context(metrics.served(settings))
        yield Tools(settings, Line(redis, settings), jobs, metrics)


def __getattr__(name: str) -> Any:
    """WorkerSettings, for the arq command and its --check: the environment is read on access, not on import."""
    if name == "WorkerSettings":
        return type(name, (), worker_settings(load_settings()))
    raise AttributeError(name)


async def serve(settings: Settings) -> None:
    """Works until SIGTERM or SIGINT; restarts after a jittered pause whenever the queue's Redis is unavailable."""
    for warning in settings.warnings():
        _log.warning(warning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    # The tools outlive outages of the queue: that is when the metrics are needed most.
    async with _tools(settings) as tools:
        await _work(settings, tools, stop)
    _log.info("the worker has stopped")


async def _work(settings: Settings, tools: Tools, stop: asyncio.Event) -> None:
    stopped = asyncio.create_task(stop.wait())
    unavailable, pause = False, 0.1
    while not stop.is_set():
        worker = Worker(
            **worker_settings(settings, tools) | {"redis_settings": None},
            redis_pool=open_queue(settings, timeout=_QUEUE_TIMEOUT, max_connections=32),
            handle_signals=False,
        )
        working = asyncio.create_task(worker.async_run())
        if not unavailable:
            _log.info("the worker is starting", queue=queue_name(settings))
        await asyncio.wait((working, stopped), timeout=_MAX_BACKOFF, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and not stop.is_set():
            if unavailable:
                _log.info("the job queue is back")
            unavailable, pause = False, 0.1
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        failure = await _end(worker, working)
        if failure and not unavailable:
            _log.warning("the job queue is unavailable", error=f"{type(failure).__name__}: {failure}")
            unavailable = True
        if not stop.is_set():
            with contextlib.suppress(TimeoutError):
                # Jitter spreads the return of a fleet.
                await asyncio.wait_for(asyncio.shield(stopped), pause * random.uniform(0.5, 1.0))
            pause = min(_MAX_BACKOFF, pause * 2)


async def _end(worker: Worker, working: "asyncio.Task[None]") -> Exception | None:
    """Lets running jobs finish, closes the connections, and returns the error that ended the worker, if any."""
    failure: Exception | None = None
    worker.allow_pick_jobs = False
    if worker.tasks:
        await asyncio.wait(worker.tasks.values(), timeout=STOP_SECONDS)
    while not working.done():
        # Once is not enough: a cancellation while a connection is being made is sometimes lost.
        working.cancel()
        await asyncio.wait((working,), timeout=0.5)
    if not working.cancelled() and isinstance(ended := working.exception(), Exception):
        failure = ended
    jobs = list(worker.tasks.values())
    # If they were left, close() would pass on whatever they raise, even a cancellation, and so end this process.
    worker.tasks.clear()
    for job in jobs:
        job.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*jobs, return_exceptions=True)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await worker.close()
    except QUEUE_ERRORS as error:
        failure = failure or error
        # close() stopped at the queue.
        with contextlib.suppress(*QUEUE_ERRORS):
            if worker.on_shutdown:
                await worker.on_shutdown(worker.ctx)
            await worker.pool.close(close_connection_pool=True)
    return failure
