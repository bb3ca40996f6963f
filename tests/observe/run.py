"""Starts everything, lets a crowd come, runs all queries, and breaks things."""

import asyncio
import contextlib
import math
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.observe.display import Display
from tests.observe.faults import FAULTS, Fault, Stack
from tests.observe.prometheus import Prometheus, QueryError, Sample, Tools, promtool
from tests.observe.queries import QUERIES, alerts, panels, shortened
from tests.observe.report import Row
from tests.observe.visitors import Visitors
from tests.support.ports import free_port
from tests.support.processes import Api, Process, Worker
from tests.support.threads import in_thread

_RATE: Final = 40.0
_CROWD: Final = 1600
_CROWD_SECONDS: Final = 8
"""People in a line that is too long to be polled exactly; they come so slowly that none is refused."""
_MAX_PENDING: Final = 300
_SETTINGS: Final[dict[str, Any]] = {"admit_rate": 25, "admit_burst": 50, "max_pending": _MAX_PENDING}
_PATIENCE: Final = 60.0
"""Seconds within which an alert has to fire or to end."""


async def observe(tools: Tools, seconds: float, rows: list[Row], display: Display) -> None:
    """Adds a row for everything that was asked."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    display.step("promtool reads what is shipped")
    rows.append(await promtool(tools, "prometheus.yml", "check", "config", "prometheus.yml"))
    rows.append(await promtool(tools, "alerts.yml", "check", "rules", "alerts.yml"))
    rows.append(await promtool(tools, "alerts_test.yml", "test", "rules", "alerts_test.yml"))
    async with AsyncExitStack() as stack:
        display.step("Redis, two api processes on one port, a worker and Prometheus start")
        redis = RedisServer()
        stack.push_async_callback(in_thread, redis.close)
        await in_thread(redis.start, None, None)
        api = Api(redis.url, processes=2, **_SETTINGS)
        metrics_port = free_port()
        worker = Worker(redis.url, worker_metrics_port=metrics_port, **_SETTINGS)
        for process in (api, worker):
            stack.push_async_callback(in_thread, _end, process)
            await in_thread(process.start)
        targets = {"daegi-api": api.port, "daegi-worker": metrics_port}
        prometheus = Prometheus(tools, targets)
        stack.push_async_callback(in_thread, prometheus.close)
        await in_thread(prometheus.start)
        async with Visitors(api.port, _RATE) as crowd:
            await _load(crowd, seconds, display)
            display.step("Prometheus is asked")
            rows += await _ask(prometheus)
            for name, port in targets.items():
                rows.append(await promtool(tools, f"metrics of {name}", "check", "metrics", given=await _scrape(port)))
            for fault in FAULTS:
                display.step(f"something is broken: {fault.text}")
                rows += await _break(fault, Stack(redis, api, worker, crowd), prometheus)
        display.step("everything is stopped")


async def _load(crowd: Visitors, seconds: float, display: Display) -> None:
    began, came = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        due = min(_CROWD, round(_CROWD * elapsed / _CROWD_SECONDS))
        crowd.come(due - came)
        came = due
        display.progress(
            f"{elapsed:.0f} of {seconds:.0f} s of load: {crowd.people:,} came, {crowd.admitted:,} went in, "
            f"{crowd.present:,} are there; {crowd.requests:,} requests, {crowd.refused:,} refused"
        )
        await asyncio.sleep(0.1)


async def _ask(prometheus: Prometheus) -> list[Row]:
    wrong = await prometheus.unhealthy()
    rows = [Row("prometheus", "rules and targets", f"{len(wrong)} unhealthy", "; ".join(wrong) or "ok")]
    for name, expr in QUERIES.items():
        rows.append(await _answer("query", name, expr, prometheus))
    for name, expr in panels():
        rows.append(await _answer("panel", name, expr, prometheus))
    active = await prometheus.alerts()
    for name, expr in alerts():
        try:
            samples = await prometheus.query(shortened(expr))
        except QueryError as error:
            rows.append(Row("alert", name, "", f"error: {error}"))
            continue
        state = active.get(name, "inactive")
        quiet = not samples and state == "inactive"
        rows.append(Row("alert", name, state, "ok" if quiet else f"without a reason: {_told(samples)}"))
    return rows


async def _answer(kind: str, name: str, expr: str, prometheus: Prometheus) -> Row:
    try:
        samples = await prometheus.query(shortened(expr))
    except QueryError as error:
        return Row(kind, name, "", f"error: {error}")
    return Row(kind, name, _told(samples), "ok" if any(map(_is_number, samples)) else "empty")


def _is_number(sample: Sample) -> bool:
    return not math.isnan(sample.value)


def _told(samples: Sequence[Sample]) -> str:
    numbers = [sample.value for sample in samples if _is_number(sample)]
    if len(samples) < 2:
        return f"{numbers[0]:.4g}" if numbers else "nothing"
    return f"{len(samples)} series, {min(numbers, default=0):.4g} to {max(numbers, default=0):.4g}"


async def _break(fault: Fault, stack: Stack, prometheus: Prometheus) -> list[Row]:
    async with fault.happens(stack):
        comes = [await _await_alert(fault, name, "comes", prometheus) for name in fault.alerts]
        goes = [await _await_alert(fault, name, "goes", prometheus) for name in fault.ends]
    return comes + goes


async def _await_alert(fault: Fault, name: str, how: str, prometheus: Prometheus) -> Row:
    deadline = time.monotonic() + _PATIENCE
    while True:
        active = await prometheus.alerts()
        happened = (name in active) == (how == "comes")
        if happened or time.monotonic() > deadline:
            state = active.get(name, "inactive")
            return Row("fault", f"{fault.text}: {name} {how}", state, "ok" if happened else "it did not")
        await asyncio.sleep(0.5)


async def _scrape(port: int) -> bytes:
    def read() -> bytes:
        with urllib.request.urlopen(f"http://{LOCALHOST}:{port}/metrics", timeout=10) as answer:
            text: bytes = answer.read()
            return text

    return await asyncio.to_thread(read)


def _end(process: Process) -> None:
    """Stops it cleanly if possible, so that it cleans up."""
    # It may have been stopped already, or not yet started.
    with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
        process.stop()
    process.__exit__()
