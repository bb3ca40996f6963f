"""What every job works with, and how it visits its events."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.errors import DaegiError, UnavailableError, UnknownVersionError, explain
from shared.jobs import Jobs, Work
from shared.line.line import Line
from shared.settings import Settings
from shared.telemetry import error_reports
from workers.metrics import WorkerMetrics

_log = structlog.get_logger(__name__)

CONCURRENCY = 4
"""Events that one job visits at once: more would not be faster, because one Redis serves them all."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Built when the worker starts, and kept under "tools" in arq's context."""

    settings: Settings
    line: Line
    jobs: Jobs
    metrics: WorkerMetrics
    published: dict[str, float] = field(default_factory=dict)
    """When this worker last published each event's index, by its own monotonic clock."""


Context = dict[Any, Any]
Job = Callable[[Context, Any], Coroutine[Any, Any, None]]


def job(work_on: Callable[[Tools, Work], Awaitable[None]]) -> Job:
    """Makes an arq job of a function over typed work. It gives up while Redis is unavailable: the sweep asks again."""

    async def run(ctx: Context, payload: Any) -> None:
        tools: Tools = ctx["tools"]
        with tools.metrics.job(name) as outcome:
            try:
                await work_on(tools, Work.parse(payload))
                outcome.append("done")
            except UnknownVersionError as error:
                outcome.append("refused")
                _log.error("a job was refused", job=name, error=str(error))
            except UnavailableError as error:
                outcome.append("left")
                _log.warning("a job was left", job=name, error=explain(error))

    name = run.__name__ = run.__qualname__ = work_on.__name__
    run.__doc__ = work_on.__doc__
    return run


async def for_each(line: Line, event_ids: Iterable[str], visit: Callable[[str], Awaitable[None]]) -> None:
    """Visits every event, a few at once. An error in one does not stop the others.

    Raises UnavailableError at the end if Redis was unavailable for any of them.
    """
    waiting = iter(event_ids)
    left: list[UnavailableError] = []

    async def visit_rest() -> None:
        for event_id in waiting:
            # Another event found its server unavailable: skip the rest of that server, not a cluster's others.
            if left and line.is_away(event_id):
                continue
            try:
                await visit(event_id)
            except UnavailableError as error:
                left.append(error)
            except DaegiError as error:
                _log.error("an event was passed over", visit=visit.__name__, event_id=event_id, error=str(error))
            except Exception as error:  # noqa: BLE001 - one event's fault must not end the others
                _log.exception("an event was passed over", visit=visit.__name__, event_id=event_id)
                error_reports.capture(error, visit=visit.__name__, event_id=event_id)

    await asyncio.gather(*(visit_rest() for _ in range(CONCURRENCY)))
    if left:
        raise left[0]
