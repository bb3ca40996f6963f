"""Events that nobody needs any more go; nobody who came meanwhile is lost with them."""

import pytest

from shared.line.line import Join
from shared.line.replies import JoinCode
from tests.line.conftest import LIFE, MakeRoom, Room

LINE_TTL = 3600


async def declare(room: Room, **changes: str) -> None:
    await room.line.configure(room.event, {"declared": "1", **changes})


async def seconds_until_unlinked(room: Room) -> float:
    """Seconds of sweeps until the event is unlinked."""
    for seconds in range(5, 2 * LINE_TTL, 5):
        room.clock.advance(5)
        if (await room.reap()).unlinked:
            return seconds
    raise AssertionError("it is never unlinked")


@pytest.mark.parametrize(("declared", "seconds"), [(False, LIFE), (True, LINE_TTL)])
async def test_an_event_that_has_long_been_empty_is_unlinked(room: Room, declared: bool, seconds: float) -> None:
    if declared:
        await declare(room, rate="3")
    await room.leave(*await room.join(5))
    await room.line.publish_index(room.event)
    assert await seconds_until_unlinked(room) == seconds
    left = [key for key in room.keys if await room.redis.exists(key)]
    assert left == ([room.keys.config] if declared else [])


async def test_the_time_counts_from_when_it_was_last_not_empty(closed: Room) -> None:
    (ticket,) = await closed.join()
    assert await closed.sweep(1000, ticket) == 0
    await closed.leave(ticket)
    assert LIFE - 10 <= await seconds_until_unlinked(closed) <= LIFE + 10


async def test_an_event_is_not_empty_while_somebody_holds_a_reservation(room: Room) -> None:
    (ticket,) = await room.join()
    await room.admit(ticket)
    room.clock.advance(1)
    # A heartbeat life and pass_ttl until it is pruned, and a life of emptiness from then on.
    assert 2 * LIFE + 30 <= await seconds_until_unlinked(room) <= 2 * LIFE + 45


@pytest.mark.parametrize("key", ["queue", "called", "absent"])
async def test_an_event_whose_log_is_lost_is_not_empty(room: Room, key: str) -> None:
    await room.join()
    await room.redis.delete(*room.keys)
    await room.redis.zadd(getattr(room.keys, key), {"1800000000000000": 1_800_000_000_000_000})
    for _ in range(100):
        room.clock.advance(100)
        assert not (await room.reap()).unlinked
    assert await room.redis.exists(getattr(room.keys, key))


async def test_an_event_that_was_unlinked_begins_anew(room: Room) -> None:
    await declare(room, rate="1", burst="4")
    tickets = await room.join(5)
    await room.admit(*tickets)
    await room.leave(*tickets)
    await seconds_until_unlinked(room)
    again = await room.join(5)
    assert again[0] > tickets[-1]
    assert await room.admit(*again) == again[:4]
    assert (await room.totals())["joined"] == 5


async def test_an_event_that_ends_and_begins_anew_lets_in_no_more_than_one_that_goes_on(make_room: MakeRoom) -> None:
    rate, burst = 0.05, 50
    room = make_room(admit_rate=rate, admit_burst=burst)
    began = room.clock.now
    admitted: set[int] = set()
    for _ in range(3):
        tickets = await room.join(burst + 20)
        for _ in range(3):
            admitted.update(await room.admit(*tickets))
        assert burst <= len(admitted) <= burst + rate * (room.clock.now - began) / 1_000_000
        await room.leave(*tickets)
        await seconds_until_unlinked(room)


async def test_a_declared_event_that_nobody_has_joined_yet_is_kept_as_long_as_an_empty_one(room: Room) -> None:
    await declare(room, burst="7")
    assert not (await room.reap()).unlinked
    assert LINE_TTL <= await seconds_until_unlinked(room) <= LINE_TTL + 5


async def test_who_joins_a_declared_event_after_a_sweep_is_the_first_there(room: Room) -> None:
    await declare(room, rate="2", burst="8")
    await room.reap()
    room.clock.advance(100)
    done = await room.line.enqueue(room.event, [], False)
    assert done.created
    tickets = await room.join(10)
    assert await room.admit(*tickets) == tickets[:8]


async def test_an_event_that_only_the_list_knows_is_forgotten_at_once(room: Room) -> None:
    await room.line.note_activity([room.event], room.now)
    assert (await room.reap()).unlinked
    assert await room.line.forget(room.event, room.now)
    assert await room.line.events(0, 10) == []


async def test_an_event_is_forgotten_only_if_nobody_was_active_in_it_meanwhile(room: Room) -> None:
    await room.line.note_activity([room.event], room.now)
    ((_, seen),) = await room.line.events(0, 10)
    room.clock.advance(1)
    await room.join()
    assert not await room.line.forget(room.event, seen)
    assert await room.line.events(0, 10) == [(room.event, room.now)]
    assert await room.line.forget(room.event, room.now)
    assert not await room.line.forget(room.event, room.now)


async def test_activity_never_goes_back(room: Room) -> None:
    await room.line.note_activity([room.event], room.now)
    await room.line.note_activity([room.event], room.now - 5000)
    assert await room.line.events(0, 10) == [(room.event, room.now)]


async def test_events_are_listed_from_the_longest_quiet_and_counted(room: Room) -> None:
    for i, name in enumerate(("b", "c", "a")):
        assert await room.line.note_activity([name], room.now + i) == i + 1
    assert [name for name, _ in await room.line.events(0, 2)] == ["b", "c"]
    assert [name for name, _ in await room.line.events(2, 2)] == ["a"]
    assert await room.line.count_events() == 3


async def test_a_join_that_comes_right_after_the_unlink_stands_in_a_new_line(room: Room) -> None:
    await room.leave(*await room.join())
    seen = room.now
    await seconds_until_unlinked(room)
    (joined,) = await room.enqueue(Join(b"", b""))
    assert (joined.code, joined.position) == (JoinCode.NEW, 1)
    assert not await room.line.forget(room.event, seen)
    assert await room.waiting() == [joined.ticket]
