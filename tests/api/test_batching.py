"""The batcher, with the test's own flush: which requests share a batch, and how callers affect each other."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from shared.errors import OverloadedError, UnavailableError
from tests.api.desk import Answers, Desk
from tests.support.waiting import eventually


async def settle() -> None:
    """Everything that can go on without the test does."""
    for _ in range(20):
        await asyncio.sleep(0)


async def gathered(*callers: "asyncio.Task[str]") -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 20)


async def test_requests_that_come_together_share_a_batch() -> None:
    desk = Desk()
    callers = desk.callers("a", 1, 2, 3)
    await settle()
    assert desk.batches == [("a", [1, 2, 3])]
    desk.release()
    assert await gathered(*callers) == ["a:1", "a:2", "a:3"]


async def test_events_never_share_a_batch_and_never_wait_for_each_other() -> None:
    desk = Desk()
    callers = [*desk.callers("a", 1), *desk.callers("b", 2), *desk.callers("a", 3), *desk.callers("b", 4)]
    await settle()
    assert sorted(desk.batches) == [("a", [1, 3]), ("b", [2, 4])]
    desk.release()
    assert await gathered(*callers) == ["a:1", "b:2", "a:3", "b:4"]


async def test_a_batch_has_at_most_max_batch_and_all_of_them_keep_the_order() -> None:
    desk = Desk(max_batch=4)
    callers = desk.callers("a", *range(30))
    desk.release()
    assert await gathered(*callers) == [f"a:{i}" for i in range(30)]
    assert all(len(requests) <= 4 for _, requests in desk.batches)
    assert [request for _, requests in desk.batches for request in requests] == list(range(30))


async def test_requests_that_come_meanwhile_form_the_next_batch_and_only_a_few_are_in_flight() -> None:
    desk = Desk(max_batch=4, max_in_flight=2)
    first = desk.callers("a", 0)
    await settle()
    rest = desk.callers("a", *range(1, 40))
    await settle()
    assert desk.most_open <= 2
    desk.go.set()
    await settle()
    assert desk.most_open <= 2
    desk.release()
    assert len(await gathered(*first, *rest)) == 40
    assert desk.most_open <= 2
    # Under load batches are full: forty people, far fewer round trips.
    assert len(desk.batches) <= 12


async def test_a_caller_is_answered_before_the_flush_has_ended() -> None:
    desk = Desk()
    callers = desk.callers("a", 1, 2)
    desk.go.set()
    assert await gathered(*callers) == ["a:1", "a:2"]
    assert desk.open == 1
    desk.release()


async def test_draining_waits_for_what_follows_the_answer_too() -> None:
    desk = Desk(max_batch=1, max_in_flight=1)
    callers = desk.callers("a", 1, 2)
    await settle()
    draining = asyncio.create_task(desk.batcher.drain())
    desk.go.set()
    await settle()
    assert not draining.done()
    desk.end.set()
    await asyncio.wait_for(draining, 20)
    assert desk.open == 0
    assert all(caller.done() for caller in callers)


async def test_draining_with_nothing_to_do_ends() -> None:
    desk = Desk()
    await asyncio.wait_for(desk.batcher.drain(), 20)
    desk.release()
    await gathered(*desk.callers("a", 1))
    await asyncio.wait_for(desk.batcher.drain(), 20)
    assert desk.pending.waiting == 0


async def test_an_error_reaches_every_caller_of_its_batch_and_nobody_else() -> None:
    desk = Desk(max_batch=3)
    desk.error = UnavailableError("gone")
    failing = desk.callers("a", 1, 2, 3)
    await settle()
    desk.go.set()
    found = await gathered(*failing)
    assert [str(error) for error in found] == ["gone"] * 3
    assert all(isinstance(error, UnavailableError) for error in found)
    desk.error = None
    desk.release()
    assert await gathered(*desk.callers("a", 4)) == ["a:4"]
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


async def test_a_flush_that_forgets_to_answer_leaves_nobody_waiting() -> None:
    class Forgetful(Desk):
        async def flush(self, event: str, requests: list[int], answer: Answers) -> None:
            return

    desk = Forgetful()
    assert [type(error) for error in await gathered(*desk.callers("a", 1, 2))] == [RuntimeError, RuntimeError]
    assert desk.pending.waiting == 0


async def test_the_request_of_a_caller_that_gives_up_while_waiting_is_never_sent() -> None:
    desk = Desk(max_batch=1, max_in_flight=1)
    callers = desk.callers("a", 1, 2, 3)
    await settle()
    callers[1].cancel()
    desk.release()
    found = await gathered(*callers)
    assert (found[0], found[2]) == ("a:1", "a:3")
    assert isinstance(found[1], asyncio.CancelledError)
    assert [requests for _, requests in desk.batches] == [[1], [3]]
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


async def test_a_caller_that_gives_up_while_its_batch_is_in_flight_harms_nobody() -> None:
    desk = Desk()
    callers = desk.callers("a", 1, 2, 3)
    await settle()
    callers[1].cancel()
    await settle()
    desk.release()
    found = await gathered(*callers)
    assert (found[0], found[2]) == ("a:1", "a:3")
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


async def test_all_callers_gone_is_no_reason_to_stop() -> None:
    desk = Desk()
    callers = desk.callers("a", 1, 2)
    await settle()
    for caller in callers:
        caller.cancel()
    desk.release()
    await gathered(*callers)
    assert await gathered(*desk.callers("a", 3)) == ["a:3"]
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


async def test_beyond_the_limit_callers_are_refused() -> None:
    desk = Desk(limit=5)
    inside = [*desk.callers("a", 1, 2, 3), *desk.callers("b", 4, 5)]
    await settle()
    refused = await gathered(*desk.callers("a", 6), *desk.callers("c", 7))
    assert [type(error) for error in refused] == [OverloadedError, OverloadedError]
    desk.release()
    assert await gathered(*inside) == ["a:1", "a:2", "a:3", "b:4", "b:5"]
    # Whoever was answered waits no more, so there is room again.
    assert await gathered(*desk.callers("a", 8)) == ["a:8"]
    await desk.batcher.drain()
    assert desk.pending.waiting == 0


async def test_an_answer_makes_room_though_its_flush_goes_on() -> None:
    desk = Desk(limit=2)
    callers = desk.callers("a", 1, 2)
    desk.go.set()
    await gathered(*callers)
    assert desk.open == 1
    assert await gathered(*desk.callers("b", 3)) == ["b:3"]
    desk.release()


async def test_the_next_batch_does_not_wait_for_what_follows_the_answer_to_the_first() -> None:
    desk = Desk(max_in_flight=2)
    first = desk.callers("a", 1)
    await settle()
    second = desk.callers("a", 2)
    await settle()
    desk.go.set()
    assert await gathered(*first, *second) == ["a:1", "a:2"]
    assert desk.open == 2
    desk.release()
    await desk.batcher.drain()


async def test_all_batchers_and_single_requests_share_one_limit() -> None:
    desk = Desk(limit=2)
    with desk.pending.one():
        desk.callers("a", 1)
        await settle()
        with pytest.raises(OverloadedError):
            await desk.ask("a", 2)
        with pytest.raises(OverloadedError), desk.pending.one():
            raise AssertionError("there was no room")
    desk.release()
    await desk.batcher.drain()
    with suppress(ZeroDivisionError), desk.pending.one():
        raise ZeroDivisionError
    assert desk.pending.waiting == 0


async def test_a_slow_batch_of_one_event_does_not_hold_up_a_full_one_behind_it() -> None:
    desk = Desk(max_batch=2, max_in_flight=2)
    desk.callers("a", 1)
    await settle()
    desk.callers("a", 2, 3)

    async def second_is_there() -> bool:
        return len(desk.batches) == 2

    await eventually(second_is_there)
    desk.release()
    await desk.batcher.drain()
