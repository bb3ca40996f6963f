"""Requests that arrive together share round trips: under load a batch grows, the number of round trips does not."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.errors import OverloadedError

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

Answer = Callable[[Sequence[AnswerT | Exception]], None]
Flush = Callable[[str, list[RequestT], Answer[AnswerT]], Awaitable[None]]
"""Serves one batch of an event: calls answer once, with an answer or an error a request, and may go on after it."""


@dataclass(slots=True)
class Budget:
    """How many requests may wait in this process, over all batchers."""

    limit: int
    used: int = 0

    def take(self) -> None:
        """One more waits; raises OverloadedError if too many do."""
        if self.used >= self.limit:
            raise OverloadedError
        self.used += 1

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Waits alone, not in a batch."""
        self.take()
        try:
            yield
        finally:
            self.used -= 1


@dataclass(slots=True)
class _Lane(Generic[RequestT, AnswerT]):
    """One event's waiting requests and its batches in flight."""

    waiting: deque[tuple[RequestT, "asyncio.Future[AnswerT]"]] = field(default_factory=deque)
    in_flight: int = 0
    scheduled: bool = False


class Batcher(Generic[RequestT, AnswerT]):
    """Groups requests by event; a few batches of an event are in flight at once, the rest waits for the next.

    An error of a batch reaches every caller in it. A caller that goes away takes nobody with it: its request is
    dropped if it is still waiting, else its answer is.
    """

    def __init__(
        self, flush: Flush[RequestT, AnswerT], budget: Budget, *, max_batch: int = 256, max_in_flight: int = 2
    ) -> None:
        self._flush = flush
        self._budget = budget
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._lanes: dict[str, _Lane[RequestT, AnswerT]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, event_id: str, request: RequestT) -> "asyncio.Future[AnswerT]":
        """The future answer to a request; raises OverloadedError if too many wait already."""
        self._budget.take()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AnswerT] = loop.create_future()
        lane = self._lanes.get(event_id)
        if lane is None:
            lane = self._lanes[event_id] = _Lane()
        lane.waiting.append((request, future))
        if not lane.scheduled and lane.in_flight < self._max_in_flight:
            lane.scheduled = True
            # Whatever else is ready in this turn of the loop comes along.
            loop.call_soon(self._start, event_id, lane)
        return future

    async def drain(self) -> None:
        """Waits until every batch is through, round trip 2 included."""
        while self._tasks or any(lane.waiting for lane in self._lanes.values()):
            await asyncio.sleep(0)
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _start(self, event_id: str, lane: _Lane[RequestT, AnswerT]) -> None:
        lane.scheduled = False
        while lane.waiting and lane.in_flight < self._max_in_flight:
            batch: list[tuple[RequestT, asyncio.Future[AnswerT]]] = []
            while lane.waiting and len(batch) < self._max_batch:
                request, future = lane.waiting.popleft()
                if future.cancelled():
                    self._budget.used -= 1
                else:
                    batch.append((request, future))
            if batch:
                lane.in_flight += 1
                task = asyncio.create_task(self._run(event_id, lane, batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not lane.waiting and not lane.in_flight:
            self._lanes.pop(event_id, None)

    async def _run(
        self,
        event_id: str,
        lane: _Lane[RequestT, AnswerT],
        batch: list[tuple[RequestT, "asyncio.Future[AnswerT]"]],
    ) -> None:
        answered = False

        def answer(answers: Sequence[AnswerT | Exception]) -> None:
            nonlocal answered
            answered = True
            self._budget.used -= len(batch)
            for (_, future), result in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        try:
            await self._flush(event_id, [request for request, _ in batch], answer)
            if not answered:
                raise RuntimeError("a batch was flushed without an answer")
        except Exception as error:
            if answered:
                raise
            answer([error] * len(batch))
        finally:
            lane.in_flight -= 1
            self._start(event_id, lane)
