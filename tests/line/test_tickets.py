"""Tickets: what they are, and that they only rise."""

import asyncio
from itertools import pairwise

import pytest

from shared.errors import EventNotFoundError
from shared.line.line import Join
from tests.line.conftest import MakeRoom, Room


def rising(tickets: list[int]) -> bool:
    return all(before < after for before, after in pairwise(tickets))


async def test_the_first_ticket_is_the_time_in_microseconds(room: Room) -> None:
    assert await room.join() == [room.clock.now]


async def test_tickets_rise_within_a_batch_and_across_batches_at_one_instant(room: Room) -> None:
    tickets = await room.join(256) + await room.join(1) + await room.join(100)
    assert rising(tickets)
    assert await room.waiting() == tickets


async def test_tickets_follow_the_clock_when_it_moves_on(room: Room) -> None:
    await room.join(3)
    room.clock.advance(2)
    assert await room.join() == [room.clock.now]


@pytest.mark.parametrize("back", [0.000_001, 5, 86_400])
async def test_tickets_rise_when_the_clock_jumps_back(room: Room, back: float) -> None:
    before = await room.join(5)
    room.clock.advance(-back)
    assert rising(before + await room.join(5) + await room.join(5))


async def test_tickets_rise_after_the_loss_of_state(room: Room) -> None:
    room.clock.advance(60)
    before = await room.join(5)
    await room.redis.delete(room.keys.state)
    room.clock.advance(-60)
    after = await room.join(5)
    assert rising(before + after)
    assert list(await room.logged()) == before + after


async def test_tickets_rise_after_the_loss_of_state_beside_an_empty_log(room: Room) -> None:
    before = await room.join(5)
    assert await room.leave(*before) == 5
    assert await room.redis.xlen(room.keys.stream) == 0
    await room.redis.delete(room.keys.state)
    room.clock.advance(-60)
    assert rising(before + await room.join(5))


async def test_tickets_rise_after_the_loss_of_an_empty_log(room: Room) -> None:
    before = await room.join(5)
    await room.leave(*before)
    await room.redis.delete(room.keys.stream)
    room.clock.advance(-60)
    assert rising(before + await room.join(5))


async def test_500_concurrent_joins_get_the_places_1_to_500_in_ticket_order(closed: Room) -> None:
    batches = await asyncio.gather(*(closed.enqueue(*[Join(b"", b"")] * (1 + i % 4)) for i in range(200)))
    joined = [one for batch in batches for one in batch]
    assert len(joined) == 500
    by_ticket = sorted(joined, key=lambda one: one.ticket)
    assert [one.position for one in by_ticket] == list(range(1, 501))
    # What a join was told is what a poll says.
    assert await closed.positions(*(one.ticket for one in by_ticket)) == list(range(1, 501))


async def test_a_place_counts_the_people_who_were_called_and_have_not_entered(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0.5, admit_burst=2)
    first = await room.join(5)
    await room.poll(*first)
    assert len(await room.called()) == 2
    (joined,) = await room.enqueue(Join(b"", b""))
    assert joined.position == 6


async def test_log_and_line_hold_the_same_tickets(room: Room) -> None:
    room.clock.advance(0.123_456)
    tickets = await room.join(300)
    assert list(await room.logged()) == tickets == await room.waiting()


async def test_a_ticket_is_its_own_entry_id(room: Room) -> None:
    # A thousandth of a second that begins with zeroes shows a lost digit.
    room.clock.now = 1_800_000_000_000_007
    (ticket,) = await room.join()
    entries = await room.redis.xrange(room.keys.stream)
    assert [entry_id for entry_id, _ in entries] == [f"{ticket // 1000}-{ticket % 1000}"] == ["1800000000000-7"]


async def test_tickets_are_written_in_full_everywhere(room: Room) -> None:
    tickets = [*await room.join(), *await room.join(who=b"vuser")]
    (replayed,) = await room.enqueue(Join(b"k" * 16 + b"u" * 8, b""))
    await room.poll(*tickets)
    await room.enter(tickets[0])
    places = list((await room.fields(room.keys.places)).values())
    keyed = [value[:-8] for value in (await room.fields(room.keys.dedupe_new)).values()]
    passes = list(await room.fields(room.keys.passes))
    members = [
        member
        for key in (room.keys.queue, room.keys.called, room.keys.heartbeat, room.keys.admitted)
        for member in await room.redis.zrange(key, 0, -1)
    ]
    assert (await room.fields(room.keys.state))["last"] == str(replayed.ticket)
    assert set(places + keyed + passes + members) == {str(ticket) for ticket in [*tickets, replayed.ticket]}


async def test_who_joined_is_in_the_log(room: Room) -> None:
    await room.enqueue(Join(b"", b""), Join(b"", b"ulabel"), Join(b"", "v대기".encode()))
    assert list((await room.logged()).values()) == ["", "ulabel", "v대기"]


async def test_a_first_join_creates_an_event_only_where_that_is_allowed(room: Room) -> None:
    with pytest.raises(EventNotFoundError):
        await room.enqueue(Join(b"", b""), may_create=False)
    assert not await room.redis.exists(*room.keys)
    created = await room.line.enqueue(room.event, [Join(b"", b"")], True)
    again = await room.line.enqueue(room.event, [Join(b"", b"")], False)
    assert (created.created, again.created) == (True, False)


async def test_a_declared_event_is_open_to_a_first_join_where_others_are_not(room: Room) -> None:
    await room.line.configure(room.event, {"declared": "1"})
    assert len(await room.enqueue(Join(b"", b""), may_create=False)) == 1
