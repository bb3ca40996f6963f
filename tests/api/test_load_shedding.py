"""Load shedding: the limit on pending requests, and what happens to requests that wait too long."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import api.serving.load_shedding
from api.serving.load_shedding import BURST, PATIENCE, Patience, PendingLimit
from shared.errors import OverloadedError
from tests.api.desk import Desk

Futures = list["asyncio.Future[Any]"]
NOW = 1000.0
LATE = NOW - PATIENCE - 0.01


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not fit into the next batch has waited too long."""
    monkeypatch.setattr(api.serving.load_shedding, "PATIENCE", 0)
    monkeypatch.setattr(api.serving.load_shedding, "BURST", 0)


def held(pending: PendingLimit, people: int) -> Futures:
    """So many who are held back."""
    loop = asyncio.get_running_loop()
    futures: Futures = [loop.create_future() for _ in range(people)]
    pending.hold(futures)
    return futures


def refused(futures: Futures) -> int:
    return sum(one.done() and isinstance(one.exception(), OverloadedError) for one in futures)


async def until_refused(futures: Sequence["asyncio.Future[Any]"]) -> None:
    async with asyncio.timeout(20):
        await asyncio.wait(futures)


def test_a_burst_is_served_whole() -> None:
    patience = Patience()
    crowd = [LATE] * 5000
    assert patience.overdue(crowd, NOW, 256) == 0
    assert patience.overdue(crowd, NOW + BURST - 0.01, 256) == 0


def test_only_the_oldest_in_a_standing_queue_are_overdue() -> None:
    patience = Patience()
    assert patience.overdue([LATE] * 300, NOW, 10) == 0
    later = NOW + BURST
    since = [later - PATIENCE - 0.02] * 7 + [later - PATIENCE + 0.02] * 300
    assert patience.overdue(since, later, 10) == 7
    # It still stands: the next are overdue as soon as they have waited that long.
    assert patience.overdue(since[7:], later + 0.01, 10) == 0
    assert patience.overdue(since[7:], later + 0.03, 10) == 290


def test_a_queue_that_moves_again_may_have_another_burst() -> None:
    patience = Patience()
    patience.overdue([LATE] * 300, NOW, 10)
    assert patience.overdue([NOW + BURST] * 300, NOW + BURST, 10) == 0
    assert patience.overdue([NOW + BURST] * 300, NOW + BURST + PATIENCE + 0.01, 10) == 0


@given(
    ages=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    batch=st.integers(1, 40),
    looks=st.lists(st.floats(0, 1), max_size=5),
)
def test_requests_that_fit_into_the_next_batch_are_never_overdue(
    ages: list[float], batch: int, looks: list[float]
) -> None:
    patience, now = Patience(), NOW
    since = sorted(NOW - age for age in ages)
    for pause in looks:
        now += pause
        overdue = patience.overdue(since, now, batch)
        assert 0 <= overdue <= max(0, len(since) - batch)
        assert all(now - at >= PATIENCE for at in since[:overdue])


async def test_beyond_the_limit_no_more_requests_wait() -> None:
    pending = PendingLimit(2)
    assert pending.acquire()
    with pending.one():
        assert not pending.acquire()
        with pytest.raises(OverloadedError), pending.one():
            raise AssertionError("there was no room")
        assert pending.waiting == 2
    assert pending.acquire()


async def test_held_requests_do_not_count_as_waiting() -> None:
    pending = PendingLimit(2)
    futures = held(pending, 100)
    assert pending.acquire()
    assert pending.acquire()
    pending.refuse_all_held()
    assert refused(futures) == 100


async def test_held_requests_are_refused_in_time_even_without_new_ones() -> None:
    pending = PendingLimit(1000)
    futures = held(pending, 350)
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    # Nobody else wants the time.
    assert refused(futures) >= 100
    await until_refused(futures)
    # And again, when it had come to rest.
    futures += held(pending, 3)
    await until_refused(futures)
    assert refused(futures) == 353


async def test_while_others_wait_few_are_refused_and_the_oldest_first() -> None:
    pending = PendingLimit(1000)
    pending.acquire()
    futures = held(pending, 500)
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    done = refused(futures)
    # Ten at a time; a machine that stalls may have come to several.
    assert 10 <= done < 100
    assert not any(one.done() for one in futures[done:])
    pending.refuse_all_held()


async def test_one_request_is_refused_for_sixteen_that_are_served() -> None:
    pending = PendingLimit(4000)
    futures = held(pending, 1000)
    for _ in range(1601):
        pending.acquire()
    pending.serve(1600)
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    assert 100 <= refused(futures) <= 200
    pending.refuse_all_held()


async def test_the_more_are_held_the_more_are_refused() -> None:
    pending = PendingLimit(1000)
    pending.acquire()
    futures = held(pending, 40_000)
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    # Most would be within ten seconds.
    assert 200 <= refused(futures) <= 1000
    pending.refuse_all_held()


async def test_draining_refuses_all_held_requests() -> None:
    pending = PendingLimit(1000)
    futures = held(pending, 700)
    pending.refuse_all_held()
    assert refused(futures) == 700


async def test_a_caller_that_gives_up_while_held_leaves_nothing_behind() -> None:
    pending = PendingLimit(10)
    futures = held(pending, 4)
    futures[0].cancel()
    futures[2].cancel()
    pending.refuse_all_held()
    assert refused([futures[1], futures[3]]) == 2


@pytest.mark.usefixtures("impatient")
async def test_a_lane_serves_in_the_order_of_arrival_and_sheds_from_the_front() -> None:
    desk = Desk(max_batch=2, max_in_flight=1)
    first = desk.callers("a", 1, 2)
    await asyncio.sleep(0.001)
    rest = desk.callers("a", *range(3, 10))
    await asyncio.sleep(0.001)
    desk.release()
    found = await asyncio.wait_for(asyncio.gather(*first, *rest, return_exceptions=True), 20)
    assert [requests for _, requests in desk.batches] == [[1, 2], [8, 9]]
    assert [type(one) for one in found] == [str] * 2 + [OverloadedError] * 5 + [str] * 2
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


@pytest.mark.usefixtures("impatient")
async def test_a_flood_of_one_event_sheds_no_requests_of_another() -> None:
    desk = Desk(max_batch=2, max_in_flight=1)
    flood = desk.callers("a", *range(20))
    await asyncio.sleep(0.001)
    others = desk.callers("b", 100, 101)
    await asyncio.sleep(0.001)
    desk.release()
    assert await asyncio.wait_for(asyncio.gather(*others), 20) == ["b:100", "b:101"]
    found = await asyncio.wait_for(asyncio.gather(*flood, return_exceptions=True), 20)
    assert sum(isinstance(one, OverloadedError) for one in found) == 18
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


@pytest.mark.parametrize(("patience", "batches"), [(PATIENCE + 1000, 2), (0, 1)])
async def test_while_a_lane_is_late_no_second_batch_waits_behind_the_first(
    monkeypatch: pytest.MonkeyPatch, patience: float, batches: int
) -> None:
    monkeypatch.setattr(api.serving.load_shedding, "PATIENCE", patience)
    monkeypatch.setattr(api.serving.load_shedding, "BURST", 1000)
    desk = Desk(max_batch=2, max_in_flight=2)
    callers = desk.callers("a", *range(8))
    await asyncio.sleep(0.001)
    assert len(desk.batches) == batches
    desk.release()
    assert await asyncio.wait_for(asyncio.gather(*callers), 20) == [f"a:{i}" for i in range(8)]
