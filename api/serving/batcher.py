"""Requests that arrive together share round trips: under load the batches grow, not the number of round trips."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

import structlog

from api.serving.load_shedding import Patience, PendingLimit
from shared.telemetry.metrics import Buckets

_log = structlog.get_logger(__name__)

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

Deliver = Callable[[Sequence[AnswerT] | Exception], None]
"""Accepts the answers of a batch, in the order of its requests, or the error that they share."""

Flush = Callable[[str, list[RequestT], Deliver[AnswerT]], Awaitable[None]]
"""Serves one batch of an event: delivers its answers once, or raises, and may go on after that."""


@dataclass(slots=True)
class _Lane(Generic[RequestT, AnswerT]):
    """One event's waiting requests, and its batches in flight, some of them not answered yet."""

    requests: list[RequestT] = field(default_factory=list)
    futures: list["asyncio.Future[AnswerT]"] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    patience: Patience = field(default_factory=Patience)
    in_flight: int = 0
    unanswered: int = 0
    scheduled: bool = False

    def take(self, size: int) -> tuple[list[RequestT], list["asyncio.Future[AnswerT]"]]:
        """Removes and returns the oldest requests and their futures."""
        requests, futures = self.requests[:size], self.futures[:size]
        del self.requests[:size], self.futures[:size], self.since[:size]
        return requests, futures


class Batcher(Generic[RequestT, AnswerT]):
    """Groups requests by event. Requests that arrive while a batch waits for its answer form the next batch, as in
    Nagle's algorithm. Once they fill a batch, it is sent without waiting for the first one.

    An error of a batch reaches every caller in it. A caller that gives up does not affect the others: its request is
    dropped if it is still waiting, else its answer is. Requests that have waited too long are handed to `pending`,
    which refuses them later.
    """

    def __init__(
        self,
        flush: Flush[RequestT, AnswerT],
        pending: PendingLimit,
        sizes: Buckets,
        *,
        max_batch: int = 256,
        max_in_flight: int = 2,
    ) -> None:
        self._flush = flush
        self._pending = pending
        self._sizes = sizes
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        # Kept, because asking for the running loop costs a system call each time.
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, _Lane[RequestT, AnswerT]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, event_id: str, request: RequestT) -> "asyncio.Future[AnswerT]":
        """The future answer to a request. It is an OverloadedError if too many wait, or if this one waits too long."""
        future: asyncio.Future[AnswerT] = self._loop.create_future()
        if not self._pending.acquire():
            self._pending.hold((future,))
            return future
        lane = self._lanes.get(event_id)
        if lane is None:
            lane = self._lanes[event_id] = _Lane()
        lane.requests.append(request)
        lane.futures.append(future)
        lane.since.append(self._loop.time())
        if not lane.scheduled and self._may_start(lane):
            lane.scheduled = True
            # Requests that are ready in the same turn of the loop join the batch.
            self._loop.call_soon(self._start, event_id, lane)
        return future

    async def drain(self) -> None:
        """Waits until every batch is done, including round trip 2."""
        while self._tasks or any(lane.requests for lane in self._lanes.values()):
            await asyncio.sleep(0)
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _may_start(self, lane: _Lane[RequestT, AnswerT]) -> bool:
        # In a lane that is late, a second batch would only wait for the first one's answers.
        full = len(lane.requests) >= self._max_batch and not lane.patience.is_late
        return lane.in_flight < self._max_in_flight and (full or not lane.unanswered)

    def _start(self, event_id: str, lane: _Lane[RequestT, AnswerT]) -> None:
        lane.scheduled = False
        while lane.requests and self._may_start(lane):
            if overdue := lane.patience.overdue(lane.since, self._loop.time(), self._max_batch):
                self._pending.release(overdue)
                self._pending.hold(lane.take(overdue)[1])
                continue
            requests, futures = lane.take(self._max_batch)
            if any(map(asyncio.Future.cancelled, futures)):
                there = [pair for pair in zip(requests, futures, strict=True) if not pair[1].cancelled()]
                self._pending.release(len(futures) - len(there))
                requests, futures = [request for request, _ in there], [future for _, future in there]
            if requests:
                self._sizes.observe(len(requests))
                lane.in_flight += 1
                lane.unanswered += 1
                task = self._loop.create_task(self._run(event_id, lane, requests, futures))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not lane.requests and not lane.in_flight and self._lanes.get(event_id) is lane:
            del self._lanes[event_id]

    async def _run(
        self,
        event_id: str,
        lane: _Lane[RequestT, AnswerT],
        requests: list[RequestT],
        futures: list["asyncio.Future[AnswerT]"],
    ) -> None:
        answered = False

        def deliver(answers: Sequence[AnswerT] | Exception) -> None:
            nonlocal answered
            answered = True
            self._pending.serve(len(futures))
            lane.unanswered -= 1
            if isinstance(answers, Exception):
                for future in futures:
                    if not future.done():
                        future.set_exception(answers)
            else:
                for future, result in zip(futures, answers, strict=True):
                    if not future.done():
                        future.set_result(result)
            self._start(event_id, lane)

        try:
            await self._flush(event_id, requests, deliver)
            if not answered:
                raise RuntimeError("a batch was flushed without an answer")
        except Exception as error:
            if answered:
                raise
            deliver(error)
        finally:
            lane.in_flight -= 1
            self._start(event_id, lane)


def logged(operation: str, flush: Flush[RequestT, AnswerT]) -> Flush[RequestT, AnswerT]:
    """The same flush, with a log line for each batch."""

    async def run(event_id: str, requests: list[RequestT], deliver: "Deliver[AnswerT]") -> None:
        began, failure = perf_counter(), None
        try:
            await flush(event_id, requests, deliver)
        except Exception as error:
            failure = type(error).__name__
            raise
        finally:
            ms = round((perf_counter() - began) * 1000, 3)
            _log.debug("a batch", operation=operation, event_id=event_id, size=len(requests), ms=ms, failure=failure)

    return run
