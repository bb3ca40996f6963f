"""The batcher under random schedules from hypothesis: nobody is lost, mixed up or counted twice."""

import asyncio
from collections import Counter
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from api.serving.load_shedding import PATIENCE
from shared.errors import OverloadedError, UnavailableError
from tests.api.desk import Answers, Desk

EVENTS = ("a", "b")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(EVENTS), st.integers(1, 7)),
        st.tuples(st.just("go away"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("answer"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("fail late"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


class Batch:
    """One flush, whose two halves the schedule decides on."""

    def __init__(self, event: str, requests: list[int]) -> None:
        self.event, self.requests = event, requests
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[bool] = loop.create_future()
        self.ended: asyncio.Future[bool] = loop.create_future()


class Scheduled(Desk):
    """A desk where every batch is decided on by itself."""

    def __init__(self, limit: int, max_batch: int, max_in_flight: int) -> None:
        super().__init__(limit, max_batch=max_batch, max_in_flight=max_in_flight)
        self.flushes: list[Batch] = []
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight = 0
        self.release_all = False

    async def flush(self, event: str, requests: list[int], answer: Answers) -> None:
        """One batch."""
        batch = Batch(event, list(requests))
        self.flushes.append(batch)
        self.in_flight[event] += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight[event])
        try:
            if not self.release_all:
                await batch.answered
            answer([f"{event}:{request}" for request in requests])
            if not self.release_all:
                await batch.ended
        finally:
            self.in_flight[event] -= 1

    def decide(self, what: str, which: int) -> None:
        """What becomes of the n-th batch that is still open."""
        half = "ended" if what in {"end", "fail late"} else "answered"
        waiting = [batch for batch in self.flushes if not getattr(batch, half).done()]
        if half == "ended":
            waiting = [batch for batch in waiting if batch.answered.done() and not batch.answered.exception()]
        if which < len(waiting):
            future = getattr(waiting[which], half)
            if what.startswith("fail"):
                future.set_exception(UnavailableError(waiting[which].event))
            else:
                future.set_result(True)

    def let_all_through(self) -> None:
        """From here on nothing waits for a decision."""
        self.release_all = True
        for batch in self.flushes:
            for future in (batch.answered, batch.ended):
                if not future.done():
                    future.set_result(True)


Caller = tuple[str, int, "asyncio.Task[str]"]


async def play(desk: Scheduled, schedule: list[tuple[str, Any, int]]) -> tuple[list[Caller], list[Any]]:
    """Plays it to its end; the callers, and what each got."""
    callers: list[Caller] = []
    drains: list[asyncio.Task[None]] = []
    for what, argument, people in schedule:
        match what:
            case "come":
                numbers = range(len(callers), len(callers) + people)
                callers += [(argument, number, asyncio.create_task(desk.ask(argument, number))) for number in numbers]
            case "go away" if argument < len(callers):
                callers[argument][2].cancel()
            case "turn":
                for _ in range(argument):
                    await asyncio.sleep(0)
            case "drain":
                drains.append(asyncio.create_task(desk.batcher.drain()))
            case "answer" | "fail" | "fail late" | "end":
                desk.decide(what, argument)
        assert 0 <= desk.pending.waiting <= desk.pending.limit
    desk.let_all_through()
    async with asyncio.timeout(20):
        found = await asyncio.gather(*(task for _, _, task in callers), return_exceptions=True)
        await asyncio.gather(desk.batcher.drain(), *drains)
    return callers, found


def check(event: str, number: int, result: Any, times_sent: int) -> None:
    """A caller got an answer of their own, or what they can be told otherwise."""
    if isinstance(result, str):
        assert (result, times_sent) == (f"{event}:{number}", 1)
    elif isinstance(result, UnavailableError):
        assert (str(result), times_sent) == (event, 1)
    elif isinstance(result, OverloadedError):
        assert times_sent == 0
    else:
        assert isinstance(result, asyncio.CancelledError)
        assert times_sent <= 1


@given(
    schedule=steps,
    limit=st.integers(1, 40),
    max_batch=st.integers(1, 5),
    max_in_flight=st.integers(1, 3),
    patience=st.sampled_from((PATIENCE, 0)),
)
@settings(max_examples=200)
def test_nobody_is_lost_mixed_up_or_counted_twice(
    schedule: list[tuple[str, Any, int]], limit: int, max_batch: int, max_in_flight: int, patience: float
) -> None:
    async def run() -> None:
        # A batch that fails after its answer has nobody to tell it to but the log.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        desk = Scheduled(limit, max_batch, max_in_flight)
        callers, found = await play(desk, schedule)
        sent = Counter((batch.event, request) for batch in desk.flushes for request in batch.requests)
        for (event, number, _), result in zip(callers, found, strict=True):
            check(event, number, result, sent[event, number])
        for event in EVENTS:
            order = [request for batch in desk.flushes if batch.event == event for request in batch.requests]
            assert order == sorted(order)
        assert desk.most_in_flight <= max_in_flight
        assert all(len(batch.requests) <= max_batch for batch in desk.flushes)
        assert desk.pending.waiting == 0
        assert not any(desk.in_flight.values())

    with mock.patch.multiple("api.serving.load_shedding", PATIENCE=patience, BURST=patience, TICK=0):
        asyncio.run(run())
